//! Reads pickles, in which PyTorch describes a file's contents, without executing anything.
//!
//! A pickle is a program for a stack machine that may call any Python function. Checkpoints need some of its
//! instructions and a handful of functions, whose results are built here as plain values; a pickle that asks for
//! anything else is refused, with the name of what it asked for. The values are in one list and refer to each other by
//! index, so that nothing recurses, and a value that contains itself does no harm.

use std::collections::HashMap;

use super::storage::Kind;

/// The most instructions of a pickle. A checkpoint of GPT-J-6B has some 10,000, its optimiser's state perhaps three
/// times as many.
const MAX_INSTRUCTIONS: usize = 1 << 20;

/// The most bytes of a text; longer ones are not names, and only names matter.
const MAX_TEXT: usize = 1024;

/// The most dimensions of a tensor; GPT-J's mask has four.
const MAX_DIMENSIONS: usize = 16;

/// A value's index in the list of all values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Id(u32);

/// A value that a pickle builds.
#[derive(Debug)]
pub(super) enum Value<'a> {
    Bool(bool),
    Int(i128),
    Text(&'a str),
    List(Vec<Id>),
    Tuple(Vec<Id>),
    Dict(Vec<(Id, Id)>),
    Function(Function),
    Storage(Storage<'a>),
    Tensor(Box<PickledTensor<'a>>),
    /// Values that no tensor depends on: None, floats, bytes, long texts.
    Other,
}

/// The functions and classes that a pickle may name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Function {
    OrderedDict,
    RebuildTensor,
    RebuildParameter,
    Storage(Kind),
}

/// An array of numbers in a file, which several tensors may share.
#[derive(Debug, Clone, Copy)]
pub(super) struct Storage<'a> {
    /// Its name in the file.
    pub(super) key: &'a str,
    pub(super) kind: Kind,
    pub(super) elements: usize,
}

/// A view of a storage, not yet checked.
#[derive(Debug, Clone)]
pub(super) struct PickledTensor<'a> {
    pub(super) storage: Storage<'a>,
    /// The index of its first element in the storage.
    pub(super) offset: usize,
    pub(super) shape: Vec<usize>,
    /// Elements from one index to the next, for each dimension.
    pub(super) strides: Vec<usize>,
}

/// A pickle that was read to its end.
#[derive(Debug)]
pub(super) struct Pickle<'a> {
    values: Vec<Value<'a>>,
    root: Id,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle at the start of these bytes; returns its length, too.
    pub(super) fn read(bytes: &'a [u8]) -> Result<(Self, usize), String> {
        let mut machine = Machine {
            bytes,
            position: 0,
            values: Vec::new(),
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
        };
        let root = machine.run()?;
        Ok((Self { values: machine.values, root }, machine.position))
    }

    /// The pickle's result.
    pub(super) fn root(&self) -> &Value<'a> {
        self.value(self.root)
    }

    pub(super) fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    /// All values, also those that are not part of `root`.
    pub(super) fn values(&self) -> &[Value<'a>] {
        &self.values
    }

    /// A dictionary's value for a key.
    pub(super) fn entry(&self, dict: &[(Id, Id)], key: &str) -> Option<&Value<'a>> {
        // Of equal keys the last wins.
        let (_, value) =
            dict.iter().rev().find(|(other, _)| matches!(self.value(*other), Value::Text(text) if *text == key))?;
        Some(self.value(*value))
    }
}

/// The instructions in checkpoints, by their names in Python's pickletools.
mod opcode {
    pub(super) const PROTO: u8 = 0x80;
    pub(super) const FRAME: u8 = 0x95;
    pub(super) const STOP: u8 = b'.';
    pub(super) const MARK: u8 = b'(';
    pub(super) const NONE: u8 = b'N';
    pub(super) const NEWTRUE: u8 = 0x88;
    pub(super) const NEWFALSE: u8 = 0x89;
    pub(super) const BININT: u8 = b'J';
    pub(super) const BININT1: u8 = b'K';
    pub(super) const BININT2: u8 = b'M';
    pub(super) const LONG1: u8 = 0x8a;
    pub(super) const BINFLOAT: u8 = b'G';
    pub(super) const BINUNICODE: u8 = b'X';
    pub(super) const SHORT_BINUNICODE: u8 = 0x8c;
    pub(super) const BINUNICODE8: u8 = 0x8d;
    pub(super) const BINBYTES: u8 = b'B';
    pub(super) const SHORT_BINBYTES: u8 = b'C';
    pub(super) const BINBYTES8: u8 = 0x8e;
    pub(super) const EMPTY_LIST: u8 = b']';
    pub(super) const APPEND: u8 = b'a';
    pub(super) const APPENDS: u8 = b'e';
    pub(super) const EMPTY_TUPLE: u8 = b')';
    pub(super) const TUPLE: u8 = b't';
    pub(super) const TUPLE1: u8 = 0x85;
    pub(super) const TUPLE2: u8 = 0x86;
    pub(super) const TUPLE3: u8 = 0x87;
    pub(super) const EMPTY_DICT: u8 = b'}';
    pub(super) const SETITEM: u8 = b's';
    pub(super) const SETITEMS: u8 = b'u';
    pub(super) const BINPUT: u8 = b'q';
    pub(super) const LONG_BINPUT: u8 = b'r';
    pub(super) const MEMOIZE: u8 = 0x94;
    pub(super) const BINGET: u8 = b'h';
    pub(super) const LONG_BINGET: u8 = b'j';
    pub(super) const GLOBAL: u8 = b'c';
    pub(super) const STACK_GLOBAL: u8 = 0x93;
    pub(super) const INST: u8 = b'i';
    pub(super) const REDUCE: u8 = b'R';
    pub(super) const BUILD: u8 = b'b';
    pub(super) const BINPERSID: u8 = b'Q';
}

struct Machine<'a> {
    bytes: &'a [u8],
    position: usize,
    values: Vec<Value<'a>>,
    stack: Vec<Id>,
    /// Heights of the stack; values below the last mark cannot be popped until the mark is.
    marks: Vec<usize>,
    memo: HashMap<u32, Id>,
}

impl<'a> Machine<'a> {
    fn run(&mut self) -> Result<Id, String> {
        for _ in 0..MAX_INSTRUCTIONS {
            if let Some(root) = self.step()? {
                return Ok(root);
            }
        }
        Err(format!(
            "its pickle has more than {MAX_INSTRUCTIONS} instructions, which a checkpoint of weights alone never has"
        ))
    }

    /// Executes one instruction; the last one returns the result.
    fn step(&mut self) -> Result<Option<Id>, String> {
        let value = match self.byte()? {
            opcode::PROTO => match self.byte()? {
                2..=5 => return Ok(None),
                protocol => return Err(format!("its pickle has protocol {protocol}; 2 to 5 can be read")),
            },
            opcode::STOP => return self.pop().map(Some),
            opcode::FRAME => return self.take(8).map(|_| None),
            opcode::MARK => {
                self.marks.push(self.stack.len());
                return Ok(None);
            }
            opcode::NONE => Value::Other,
            opcode::NEWTRUE => Value::Bool(true),
            opcode::NEWFALSE => Value::Bool(false),
            opcode::BININT => Value::Int(i32::from_le_bytes(self.array()?).into()),
            opcode::BININT1 => Value::Int(self.byte()?.into()),
            opcode::BININT2 => Value::Int(u16::from_le_bytes(self.array()?).into()),
            opcode::LONG1 => self.long()?,
            opcode::BINFLOAT => self.take(8).map(|_| Value::Other)?,
            opcode::BINUNICODE => self.length4().and_then(|length| self.text(length))?,
            opcode::SHORT_BINUNICODE => self.byte().and_then(|length| self.text(length.into()))?,
            opcode::BINUNICODE8 => self.length8().and_then(|length| self.text(length))?,
            opcode::BINBYTES => self.length4().and_then(|length| self.take(length)).map(|_| Value::Other)?,
            opcode::SHORT_BINBYTES => self.byte().and_then(|length| self.take(length.into())).map(|_| Value::Other)?,
            opcode::BINBYTES8 => self.length8().and_then(|length| self.take(length)).map(|_| Value::Other)?,
            opcode::EMPTY_LIST => Value::List(Vec::new()),
            opcode::EMPTY_TUPLE => Value::Tuple(Vec::new()),
            opcode::EMPTY_DICT => Value::Dict(Vec::new()),
            opcode::TUPLE => Value::Tuple(self.pop_to_mark()?),
            opcode::TUPLE1 => Value::Tuple(self.pop_some::<1>()?.to_vec()),
            opcode::TUPLE2 => Value::Tuple(self.pop_some::<2>()?.to_vec()),
            opcode::TUPLE3 => Value::Tuple(self.pop_some::<3>()?.to_vec()),
            opcode::APPEND => return self.pop_some::<1>().and_then(|items| self.append(&items)),
            opcode::APPENDS => return self.pop_to_mark().and_then(|items| self.append(&items)),
            opcode::SETITEM => return self.pop_some::<2>().and_then(|items| self.insert(&items)),
            opcode::SETITEMS => return self.pop_to_mark().and_then(|items| self.insert(&items)),
            opcode::BUILD => return self.pop().and_then(|_| self.set_attributes()),
            opcode::BINPUT => return self.byte().and_then(|index| self.remember(index.into())),
            opcode::LONG_BINPUT => return self.array().and_then(|index| self.remember(u32::from_le_bytes(index))),
            opcode::MEMOIZE => return self.remember(self.memo.len() as u32),
            opcode::BINGET => return self.byte().and_then(|index| self.recall(index.into())),
            opcode::LONG_BINGET => return self.array().and_then(|index| self.recall(u32::from_le_bytes(index))),
            opcode::GLOBAL => Value::Function(self.global()?),
            opcode::STACK_GLOBAL => Value::Function(self.global_on_stack()?),
            // An instruction of protocol 0. The function that it names makes a better message.
            opcode::INST => return self.global().and_then(|_| Err(unknown_opcode(opcode::INST))),
            opcode::REDUCE => {
                let [function, arguments] = self.pop_some()?;
                self.call(function, arguments)?
            }
            opcode::BINPERSID => {
                let id = self.pop()?;
                self.storage(id)?
            }
            other => return Err(unknown_opcode(other)),
        };
        // There are fewer values than instructions.
        self.stack.push(Id(self.values.len() as u32));
        self.values.push(value);
        Ok(None)
    }

    // ---- bytes ----

    fn take(&mut self, length: usize) -> Result<&'a [u8], String> {
        let rest = &self.bytes[self.position..];
        let taken = rest.get(..length).ok_or("its pickle ends early; the file was cut off or is damaged")?;
        self.position += length;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    fn byte(&mut self) -> Result<u8, String> {
        self.array().map(|[byte]| byte)
    }

    fn length4(&mut self) -> Result<usize, String> {
        self.array().map(|length| u32::from_le_bytes(length) as usize)
    }

    fn length8(&mut self) -> Result<usize, String> {
        // A length beyond `usize` exceeds any file.
        self.array().map(|length| usize::try_from(u64::from_le_bytes(length)).unwrap_or(usize::MAX))
    }

    fn text(&mut self, length: usize) -> Result<Value<'a>, String> {
        let bytes = self.take(length)?;
        let text = (length <= MAX_TEXT).then(|| str::from_utf8(bytes).ok()).flatten();
        Ok(text.map_or(Value::Other, Value::Text))
    }

    /// A little-endian two's complement integer after its length in one byte.
    fn long(&mut self) -> Result<Value<'a>, String> {
        let length = self.byte()?;
        let bytes = self.take(length.into())?;
        let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
        let mut number = if negative { [0xff; 16] } else { [0; 16] };
        let Some(low) = number.get_mut(..bytes.len()) else { return Ok(Value::Other) };
        low.copy_from_slice(bytes);
        Ok(Value::Int(i128::from_le_bytes(number)))
    }

    // ---- the stack ----

    fn pop(&mut self) -> Result<Id, String> {
        self.pop_some().map(|[id]| id)
    }

    /// Pops the topmost values, deepest first.
    fn pop_some<const N: usize>(&mut self) -> Result<[Id; N], String> {
        let floor = self.marks.last().copied().unwrap_or_default();
        let start = self.stack.len().checked_sub(N).filter(|&start| start >= floor).ok_or_else(unsound)?;
        let mut taken = [Id(0); N];
        taken.copy_from_slice(&self.stack[start..]);
        self.stack.truncate(start);
        Ok(taken)
    }

    fn pop_to_mark(&mut self) -> Result<Vec<Id>, String> {
        let start = self.marks.pop().ok_or_else(unsound)?;
        Ok(self.stack.split_off(start))
    }

    fn top(&self) -> Result<Id, String> {
        let floor = self.marks.last().copied().unwrap_or_default();
        self.stack[floor..].last().copied().ok_or_else(unsound)
    }

    fn value(&self, id: Id) -> &Value<'a> {
        &self.values[id.0 as usize]
    }

    fn remember(&mut self, index: u32) -> Result<Option<Id>, String> {
        self.memo.insert(index, self.top()?);
        Ok(None)
    }

    fn recall(&mut self, index: u32) -> Result<Option<Id>, String> {
        let id = *self.memo.get(&index).ok_or_else(unsound)?;
        self.stack.push(id);
        Ok(None)
    }

    // ---- collections ----

    fn append(&mut self, items: &[Id]) -> Result<Option<Id>, String> {
        let list = self.top()?;
        let Value::List(list) = &mut self.values[list.0 as usize] else { return Err(unsound()) };
        list.extend_from_slice(items);
        Ok(None)
    }

    fn insert(&mut self, items: &[Id]) -> Result<Option<Id>, String> {
        let dict = self.top()?;
        let Value::Dict(dict) = &mut self.values[dict.0 as usize] else { return Err(unsound()) };
        let (pairs, []) = items.as_chunks::<2>() else { return Err(unsound()) };
        dict.extend(pairs.iter().map(|[key, value]| (*key, *value)));
        Ok(None)
    }

    /// Ignores attributes: a state dictionary has its modules' versions, a parameter may have any.
    fn set_attributes(&self) -> Result<Option<Id>, String> {
        match self.value(self.top()?) {
            Value::Dict(_) | Value::Tensor(_) => Ok(None),
            _ => Err(unsound()),
        }
    }

    // ---- functions ----

    fn global(&mut self) -> Result<Function, String> {
        let [module, name] = [self.line()?, self.line()?];
        function(module, name)
    }

    fn global_on_stack(&mut self) -> Result<Function, String> {
        match self.pop_some()?.map(|id| self.value(id)) {
            [Value::Text(module), Value::Text(name)] => function(module, name),
            _ => Err(unsound()),
        }
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.position..];
        let length = rest.iter().take(MAX_TEXT).position(|&byte| byte == b'\n').ok_or_else(unsound)?;
        self.position += length + 1;
        str::from_utf8(&rest[..length]).map_err(|_| unsound())
    }

    fn call(&self, function: Id, arguments: Id) -> Result<Value<'a>, String> {
        let (&Value::Function(function), Value::Tuple(arguments)) = (self.value(function), self.value(arguments))
        else {
            return Err(unsound());
        };
        match (function, arguments.as_slice()) {
            (Function::OrderedDict, []) => Ok(Value::Dict(Vec::new())),
            (Function::RebuildTensor, [storage, offset, shape, strides, ..]) => {
                let Value::Storage(storage) = *self.value(*storage) else { return Err(unsound()) };
                let tensor = PickledTensor {
                    storage,
                    offset: self.size(*offset)?,
                    shape: self.sizes(*shape)?,
                    strides: self.sizes(*strides)?,
                };
                if tensor.shape.len() != tensor.strides.len() {
                    return Err(unsound());
                }
                Ok(Value::Tensor(Box::new(tensor)))
            }
            // The other arguments concern training.
            (Function::RebuildParameter, [tensor, ..]) => match self.value(*tensor) {
                Value::Tensor(tensor) => Ok(Value::Tensor(tensor.clone())),
                _ => Err(unsound()),
            },
            _ => Err(unsound()),
        }
    }

    /// The storage of a persistent id: ("storage", its class, its key, its device, its elements, …).
    fn storage(&self, id: Id) -> Result<Value<'a>, String> {
        let Value::Tuple(parts) = self.value(id) else { return Err(unsound()) };
        let [tag, kind, key, _device, elements, view @ ..] = parts.as_slice() else { return Err(unsound()) };
        let parts = (self.value(*tag), self.value(*kind), self.value(*key));
        let (Value::Text("storage"), &Value::Function(Function::Storage(kind)), &Value::Text(key)) = parts else {
            return Err(unsound());
        };
        // In 2017 PyTorch could write a view of another storage here; later versions write None.
        if !view.iter().all(|part| matches!(self.value(*part), Value::Other)) {
            return Err(unsound());
        }
        Ok(Value::Storage(Storage { key, kind, elements: self.size(*elements)? }))
    }

    fn size(&self, id: Id) -> Result<usize, String> {
        match self.value(id) {
            Value::Int(size) => {
                usize::try_from(*size).map_err(|_| format!("a tensor in it has {size} for a size or an offset"))
            }
            _ => Err(unsound()),
        }
    }

    fn sizes(&self, id: Id) -> Result<Vec<usize>, String> {
        match self.value(id) {
            Value::Tuple(sizes) if sizes.len() > MAX_DIMENSIONS => {
                Err(format!("a tensor in it has {} dimensions; {MAX_DIMENSIONS} can be read", sizes.len()))
            }
            Value::Tuple(sizes) => sizes.iter().map(|&size| self.size(size)).collect(),
            _ => Err(unsound()),
        }
    }
}

/// The function of this name, if it is one that checkpoints need.
fn function(module: &str, name: &str) -> Result<Function, String> {
    let storage = || Kind::of_class(name).filter(|_| module == "torch").map(Function::Storage);
    match (module, name) {
        ("collections", "OrderedDict") => Ok(Function::OrderedDict),
        ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Ok(Function::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Ok(Function::RebuildParameter),
        _ => storage().ok_or_else(|| {
            let called: String = format!("{module}.{name}").chars().flat_map(char::escape_debug).take(200).collect();
            format!(
                "it asks to call {called}, which no checkpoint needs; refused, nothing was executed. If you trust the \
                 file, save the weights alone: torch.save(model.state_dict(), …)"
            )
        }),
    }
}

fn unknown_opcode(opcode: u8) -> String {
    format!(
        "its pickle has the instruction {opcode:#04x}, which no checkpoint needs; the file is damaged or not PyTorch's"
    )
}

fn unsound() -> String {
    "its pickle is malformed; the file is damaged, or not what torch.save(model.state_dict(), …) writes".to_owned()
}
