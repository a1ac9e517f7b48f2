//! Files of PyTorch's, put together byte by byte, so that any one of them can be wrong.

/// A pickle of protocol 2 with these instructions.
pub fn pickle(instructions: &[u8]) -> Vec<u8> {
    [b"\x80\x02", instructions, b"."].concat()
}

pub fn text(text: &str) -> Vec<u8> {
    [b"X", &(text.len() as u32).to_le_bytes()[..], text.as_bytes()].concat()
}

pub fn int(number: i64) -> Vec<u8> {
    [b"\x8a\x08", &number.to_le_bytes()[..]].concat()
}

pub fn tuple(items: &[Vec<u8>]) -> Vec<u8> {
    [b"(", &items.concat()[..], b"t"].concat()
}

pub fn ints(numbers: &[i64]) -> Vec<u8> {
    tuple(&numbers.iter().copied().map(int).collect::<Vec<_>>())
}

pub fn dict(entries: &[(&str, Vec<u8>)]) -> Vec<u8> {
    let entries = entries.iter().map(|(key, value)| [text(key), value.clone()].concat()).collect::<Vec<_>>();
    [b"}(", &entries.concat()[..], b"u"].concat()
}

pub fn global(module: &str, name: &str) -> Vec<u8> {
    format!("c{module}\n{name}\n").into_bytes()
}

/// A call of a function with some arguments.
pub fn call(function: Vec<u8>, arguments: &[Vec<u8>]) -> Vec<u8> {
    [function, tuple(arguments), b"R".to_vec()].concat()
}

/// The tensor that is damaged: the first that the model looks for, with the numbers of a storage of its own.
#[derive(Clone)]
pub struct Tensor {
    pub class: &'static str,
    pub key: &'static str,
    pub elements: i64,
    pub offset: i64,
    pub shape: Vec<i64>,
    pub strides: Vec<i64>,
}

/// Elements of the embedding of `odd_widths`.
pub const ELEMENTS: usize = 101 * 33;

impl Tensor {
    pub fn sound() -> Self {
        let (shape, strides) = (vec![101, 33], vec![33, 1]);
        Self { class: "HalfStorage", key: "0", elements: ELEMENTS as i64, offset: 0, shape, strides }
    }

    pub fn build(&self) -> Vec<u8> {
        let (class, elements) = (global("torch", self.class), int(self.elements));
        let id = tuple(&[text("storage"), class, text(self.key), text("cuda:0"), elements]);
        let storage = [id, b"Q".to_vec()].concat();
        let [shape, strides] = [&self.shape, &self.strides].map(|numbers| ints(numbers));
        let arguments = [storage, int(self.offset), shape, strides, b"\x89".to_vec(), b"N".to_vec()];
        call(global("torch._utils", "_rebuild_tensor_v2"), &arguments)
    }

    /// The pickle of a state dictionary with nothing else in it.
    pub fn pickle(&self) -> Vec<u8> {
        pickle(&dict(&[("transformer.wte.weight", self.build())]))
    }
}

/// An entry of a zip archive, and the lies about it.
#[derive(Clone)]
pub struct Entry {
    pub name: String,
    pub bytes: Vec<u8>,
    pub method: u16,
    pub flags: u16,
    /// What its own header calls it.
    pub local_name: String,
    /// What its own header says of its size.
    pub local_size: u32,
    /// What the directory says of its size.
    pub size: u64,
    /// The entry whose header the directory takes for its own.
    pub header_of: Option<usize>,
}

impl Entry {
    pub fn new(name: &str, bytes: Vec<u8>) -> Self {
        let (name, local_name, size) = (name.to_owned(), name.to_owned(), bytes.len());
        Self {
            name,
            local_name,
            bytes,
            method: 0,
            flags: 0,
            local_size: size as u32,
            size: size as u64,
            header_of: None,
        }
    }
}

/// The entries that torch.save would write for the tensor that is damaged, with this pickle.
pub fn entries(pickle: &[u8]) -> Vec<Entry> {
    vec![
        Entry::new("archive/data.pkl", pickle.to_vec()),
        Entry::new("archive/byteorder", b"little".to_vec()),
        Entry::new("archive/data/0", vec![0; 2 * ELEMENTS]),
        Entry::new("archive/version", b"3\n".to_vec()),
    ]
}

/// A zip archive; `wide` puts all that can be there into the 64-bit records.
pub fn zip(entries: &[Entry], wide: bool) -> Vec<u8> {
    let mut file = Vec::new();
    let mut places = Vec::new();
    for entry in entries {
        places.push(file.len() as u64);
        file.extend(b"PK\x03\x04\x14\0");
        file.extend([entry.flags, entry.method, 0, 0].map(u16::to_le_bytes).concat());
        file.extend([0, entry.local_size, entry.local_size].map(u32::to_le_bytes).concat());
        file.extend([entry.local_name.len() as u16, 0].map(u16::to_le_bytes).concat());
        file.extend(entry.local_name.as_bytes());
        file.extend(&entry.bytes);
    }
    let start = file.len() as u64;
    for (index, entry) in entries.iter().enumerate() {
        let place = places[entry.header_of.unwrap_or(index)];
        let fields = [entry.size, entry.size, place];
        let extra = if wide {
            [&[9, 0, 2, 0, 7, 7, 1, 0, 24, 0], &fields.map(u64::to_le_bytes).concat()[..]].concat()
        } else {
            Vec::new()
        };
        let [packed, size, place] = fields.map(|field| if wide { u32::MAX } else { field as u32 });
        file.extend(b"PK\x01\x02\x14\0\x14\0");
        file.extend([entry.flags, entry.method, 0, 0].map(u16::to_le_bytes).concat());
        file.extend([0, packed, size].map(u32::to_le_bytes).concat());
        file.extend([entry.name.len() as u16, extra.len() as u16, 0, 0, 0, 0, 0].map(u16::to_le_bytes).concat());
        file.extend(place.to_le_bytes());
        file.extend(entry.name.as_bytes());
        file.extend(extra);
    }
    let end = file.len() as u64;
    let count = entries.len();
    if wide {
        file.extend([&b"PK\x06\x06"[..], &44u64.to_le_bytes(), &[45, 0, 45, 0], &[0; 8]].concat());
        file.extend([count as u64, count as u64, end - start, start].map(u64::to_le_bytes).concat());
        file.extend([&b"PK\x06\x07"[..], &[0; 4], &end.to_le_bytes(), &[1, 0, 0, 0]].concat());
        file.extend([&b"PK\x05\x06"[..], &[0; 4], &[0xff; 12], &[0; 2]].concat());
    } else {
        file.extend([&b"PK\x05\x06"[..], &[0; 4]].concat());
        file.extend([count as u16, count as u16].map(u16::to_le_bytes).concat());
        file.extend([(end - start) as u32, start as u32].map(u32::to_le_bytes).concat());
        file.extend([0; 2]);
    }
    file
}

/// The five parts that a file of before 1.6 has before its storages.
pub struct Legacy {
    pub magic: Vec<u8>,
    pub protocol: Vec<u8>,
    pub system: Vec<u8>,
    pub tensors: Vec<u8>,
    pub keys: Vec<u8>,
    pub storages: Vec<u8>,
}

impl Legacy {
    pub fn new(tensors: &[u8]) -> Self {
        Self {
            magic: pickle(b"\x8a\x0a\x6c\xfc\x9c\x46\xf9\x20\x6a\xa8\x50\x19"),
            protocol: pickle(&int(1001)),
            system: pickle(&dict(&[("protocol_version", int(1001)), ("little_endian", b"\x88".to_vec())])),
            tensors: tensors.to_vec(),
            keys: pickle(&[b"](".to_vec(), text("0"), b"e".to_vec()].concat()),
            storages: [&(ELEMENTS as u64).to_le_bytes()[..], &[0; 2 * ELEMENTS]].concat(),
        }
    }

    pub fn file(&self) -> Vec<u8> {
        let Self { magic, protocol, system, tensors, keys, storages } = self;
        [magic, protocol, system, tensors, keys, storages].map(Vec::as_slice).concat()
    }
}
