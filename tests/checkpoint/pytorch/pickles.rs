//! Pickles that nobody should read: those that ask for code to be executed, malformed ones, and tensors that
//! are not where they say.

use tempfile::TempDir;

use super::forge::{Tensor, call, dict, entries, global, int, pickle, text, tuple, zip};
use super::{assert_file_refused, assert_pickle_refused, assert_refused};

#[test]
fn no_code_is_executed() {
    let directory = TempDir::new().expect("a temporary directory");
    let traces = directory.path().join("executed");
    let command = format!("touch {}", traces.display());
    for (module, name) in [
        ("os", "system"),
        ("posix", "system"),
        ("nt", "system"),
        ("builtins", "eval"),
        ("builtins", "getattr"),
        ("__builtin__", "exec"),
        ("subprocess", "Popen"),
        ("torch", "load"),
        ("torch", "FloatTensor"),
        ("torch.storage", "_load_from_bytes"),
        ("torch._utils", "_rebuild_tensor_v2.__globals__"),
        ("collections", "OrderedDict.fromkeys"),
        ("os", "HalfStorage"),
        ("transformers.models.gptj.modeling_gptj", "GPTJForCausalLM"),
    ] {
        let words = format!("asks to call {module}.{name}, which no checkpoint needs; refused, nothing was executed");
        let arguments = [text(&command)];
        let on_stack = [text(module), text(name), b"\x93".to_vec()].concat();
        let instance = [&b"("[..], &arguments[0], format!("i{module}\n{name}\n").as_bytes()].concat();
        let object = [global(module, name), tuple(&arguments), b"\x81".to_vec()].concat();
        for call in [call(global(module, name), &arguments), call(on_stack, &arguments), instance, object] {
            assert_pickle_refused(name, &pickle(&call), &words);
            assert_pickle_refused(name, &pickle(&dict(&[("transformer.wte.weight", call)])), &words);
        }
    }
    let escape = pickle(&global("os\u{1b}[2J", "system"));
    assert_pickle_refused("a name that would clear the terminal", &escape, r"asks to call os\u{1b}[2J.system");
    let long = pickle(&global(&"o".repeat(900), "system"));
    assert_pickle_refused("a name without end", &long, &format!("asks to call {}, which", "o".repeat(200)));
    assert!(!traces.exists());
}

#[test]
fn pickles_that_make_no_sense_are_refused() {
    let nonsense = "its pickle is malformed";
    let early = "its pickle ends early";
    let ordered_dict = || global("collections", "OrderedDict");
    for (case, pickle, word) in [
        ("protocol 0", b"\x80\x00N.".to_vec(), "its pickle has protocol 0; 2 to 5 can be read"),
        ("protocol 6", b"\x80\x06N.".to_vec(), "its pickle has protocol 6"),
        ("a text that is too long", pickle(b"X\xff\xff\xff\x7f"), early),
        ("a text of 16 EiB", pickle(b"\x8d\xff\xff\xff\xff\xff\xff\xff\xff"), early),
        ("bytes of 16 EiB", pickle(b"\x8e\xff\xff\xff\xff\xff\xff\xff\xff"), early),
        ("nothing to take", pickle(b""), nonsense),
        ("nothing to take two of", pickle(b"N\x86"), nonsense),
        ("what lies below a mark", pickle(b"N(0"), "instruction 0x30"),
        ("a tuple of what lies below a mark", pickle(b"N(\x85"), nonsense),
        ("no mark", pickle(b"Nt"), nonsense),
        ("nothing to remember", pickle(b"q\x00"), nonsense),
        ("nothing remembered", pickle(b"h\x00"), nonsense),
        ("a list that is none", pickle(b"}Na"), nonsense),
        ("a dictionary that is none", pickle(b"]NNs"), nonsense),
        ("a key without a value", pickle(b"}(Nu"), nonsense),
        ("attributes of a number", pickle(b"K\x01Nb"), nonsense),
        ("a call of a number", pickle(b"K\x01)R"), nonsense),
        ("a call with no tuple", pickle(&[ordered_dict(), b"NR".to_vec()].concat()), nonsense),
        ("a dictionary made of something", pickle(&call(ordered_dict(), &[b"N".to_vec()])), nonsense),
        ("a tensor of nothing", pickle(&call(global("torch._utils", "_rebuild_tensor_v2"), &[])), nonsense),
        ("a parameter of nothing", pickle(&call(global("torch._utils", "_rebuild_parameter"), &[int(1)])), nonsense),
        ("a call of a storage", pickle(&call(global("torch", "HalfStorage"), &[int(1 << 60)])), nonsense),
        ("a storage by another name", pickle(&[tuple(&[text("module")]), b"Q".to_vec()].concat()), nonsense),
        ("a global without end", pickle(&[b'c'; 5000]), nonsense),
        ("an extension", pickle(b"\x82\x01"), "instruction 0x82"),
        ("a buffer from elsewhere", pickle(b"\x97"), "instruction 0x97"),
        ("nothing but marks", pickle(&[b'('; 1_000_000]), nonsense),
        ("more than anyone needs", pickle(&[b'N'; 2_000_000]), "more than 1048576 instructions"),
    ] {
        assert_pickle_refused(case, &pickle, word);
    }
}

#[test]
fn pickles_of_anything_but_tensors_are_refused() {
    let no_dict = "it has no dictionary of tensors";
    // Each list holds the one before it twice: 2^60 items in all, for a reader that would count them.
    let laughs: Vec<u8> = (0..60u8)
        .flat_map(|level| [b']', b'q', level, b'(', b'h', level.max(1) - 1, b'h', level.max(1) - 1, b'e'])
        .collect();
    for (case, pickle, word) in [
        ("no dictionary", pickle(b"N"), no_dict),
        ("a list", pickle(b"]"), no_dict),
        ("a list of itself", pickle(b"]q\x00h\x00a"), no_dict),
        ("tuples in tuples", pickle(&[&b")"[..], &[0x85; 1_000_000]].concat()), no_dict),
        ("a model of itself", pickle(&[b"}q\x00".to_vec(), text("model"), b"h\x00s".to_vec()].concat()), no_dict),
        ("an empty dictionary", pickle(b"}"), "35 of the model's tensors are missing: wte.weight"),
        ("a dictionary in itself", pickle(b"}q\x00h\x00h\x00s"), "35 of the model's tensors are missing"),
        ("an endless name", pickle(&dict(&[(&"x".repeat(9_999_999), Tensor::sound().build())])), "35 of the"),
        ("lists of lists of lists", pickle(&laughs), no_dict),
    ] {
        assert_refused(case, &[("pytorch_model.bin", &zip(&entries(&pickle), false))], &[word]);
    }
}

#[test]
fn tensors_that_leave_their_storage_are_refused() {
    let sound = Tensor::sound();
    let outside = "exceed its storage of 3333 numbers";
    let lengths = "its pickle is malformed";
    let size = "for a size or an offset";
    for (case, tensor, word) in [
        ("an offset", Tensor { offset: 1, ..sound.clone() }, outside),
        ("an enormous offset", Tensor { offset: i64::MAX, ..sound.clone() }, outside),
        ("a stride", Tensor { strides: vec![34, 1], ..sound.clone() }, outside),
        ("an enormous stride", Tensor { strides: vec![33, i64::MAX], ..sound.clone() }, outside),
        ("a size", Tensor { shape: vec![102, 33], ..sound.clone() }, outside),
        ("an enormous size", Tensor { shape: vec![i64::MAX, 33], ..sound.clone() }, outside),
        (
            "uncountable elements",
            Tensor { shape: vec![1 << 40, 1 << 40], strides: vec![0, 0], ..sound.clone() },
            outside,
        ),
        ("uncountable bytes", Tensor { shape: vec![i64::MAX, 2], strides: vec![0, 0], ..sound.clone() }, outside),
        (
            "uncountable nothing",
            Tensor { shape: vec![1 << 40, 1 << 40, 0], strides: vec![1, 1, 1], ..sound.clone() },
            outside,
        ),
        (
            "nothing",
            Tensor { shape: vec![0, 1 << 40, 1 << 40], strides: vec![1, 1, 1], ..sound.clone() },
            "its shape is [0,",
        ),
        (
            "one number for all",
            Tensor { shape: vec![1 << 40], strides: vec![0], ..sound.clone() },
            "its shape [1099511627776] repeats the",
        ),
        (
            "one of one",
            Tensor { shape: vec![1, 1], strides: vec![i64::MAX, i64::MAX], ..sound.clone() },
            "its shape is [1, 1]",
        ),
        ("a scalar", Tensor { shape: vec![], strides: vec![], ..sound.clone() }, "its shape is []"),
        ("a negative size", Tensor { shape: vec![-101, 33], ..sound.clone() }, size),
        ("a negative stride", Tensor { strides: vec![-33, 1], ..sound.clone() }, size),
        ("a negative offset", Tensor { offset: -1, ..sound.clone() }, size),
        ("a negative storage", Tensor { elements: -1, ..sound.clone() }, size),
        ("too few strides", Tensor { strides: vec![33], ..sound.clone() }, lengths),
        (
            "a tensor of 17 dimensions",
            Tensor { shape: vec![1; 17], strides: vec![1; 17], ..sound.clone() },
            "17 dimensions; 16",
        ),
        ("masks", Tensor { class: "BoolStorage", ..sound.clone() }, "its numbers are Bool; Float, Half and BFloat16"),
    ] {
        assert_pickle_refused(case, &tensor.pickle(), word);
    }
    for (case, tensor, word) in [
        (
            "a long storage",
            Tensor { elements: 3334, ..sound.clone() },
            "storage 0 has 6666 bytes, too few for 3334 numbers",
        ),
        ("an enormous storage", Tensor { elements: i64::MAX, ..sound.clone() }, "too few for 9223372036854775807"),
        ("wider numbers", Tensor { class: "FloatStorage", ..sound.clone() }, "too few for 3333 numbers"),
        ("doubles", Tensor { class: "DoubleStorage", elements: 833, ..sound.clone() }, "its numbers are Double"),
        ("no storage", Tensor { key: "1", ..sound.clone() }, "its storage 1 is missing"),
        (
            "a path",
            Tensor { key: "../../../../etc/passwd", ..sound.clone() },
            "its storage ../../../../etc/passwd is missing",
        ),
        (
            "a storage that would clear the terminal",
            Tensor { key: "\u{1b}[2J", ..sound.clone() },
            r"storage \u{1b}[2J is",
        ),
        ("a path to an entry", Tensor { key: "../data.pkl", ..sound.clone() }, "its storage ../data.pkl is missing"),
    ] {
        assert_file_refused(case, &zip(&entries(&tensor.pickle()), false), word);
    }
}
