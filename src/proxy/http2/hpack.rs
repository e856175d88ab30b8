//! HPACK (RFC 7541), as much of it as finds what a header block spells out.
//!
//! Nothing is remembered from one block to the next: what a block refers to in the dynamic table is passed over. h2 decodes
//! the block behind it.

use std::ops::Range;

/// A field that a header block spells out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Literal {
    /// Where it is in the block.
    pub(crate) at: Range<usize>,
    pub(crate) name: FieldName,
    /// Where its value is, with the length before it.
    pub(crate) value: Range<usize>,
    /// Whether it goes into the dynamic table (RFC 7541 section 6.2.1): its length counts there.
    pub(super) is_indexed: bool,
}

/// How a literal names its field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum FieldName {
    /// By the index of another one with that name.
    Index(usize),
    /// Spelt out: where it is, with the length before it.
    Spelt(Range<usize>),
}

/// The literals of a block, in order, until its end or where it is cut or malformed.
pub(super) fn literals(block: &[u8]) -> impl Iterator<Item = Literal> {
    let mut at = 0;
    std::iter::from_fn(move || {
        loop {
            let start = at;
            let first = *block.get(at)?;
            if first & 0x80 != 0 {
                at = integer(block, at, 7)?.1;
            } else if first & 0xe0 == 0x20 {
                at = integer(block, at, 5)?.1;
            } else {
                let is_indexed = first & 0x40 != 0;
                let (index, next) = integer(block, at, if is_indexed { 6 } else { 4 })?;
                let (name, next) = match index {
                    0 => {
                        let end = string(block, next)?.1.end;
                        (FieldName::Spelt(next..end), end)
                    }
                    index => (FieldName::Index(index), next),
                };
                at = string(block, next)?.1.end;
                return Some(Literal { at: start..at, name, value: next..at, is_indexed });
            }
        }
    })
}

/// Calls `take` with each byte of a string literal, which begins with its length; `None`: it is malformed.
pub(super) fn read_string(literal: &[u8], mut take: impl FnMut(u8)) -> Option<()> {
    let (is_huffman, data) = string(literal, 0)?;
    let data = &literal[data];
    if is_huffman {
        return read_huffman(data, take);
    }
    data.iter().copied().for_each(&mut take);
    Some(())
}

/// Whether a string literal has a control character that no field value has (RFC 9110 section 5.5); `None`: it is malformed.
pub(super) fn has_control(literal: &[u8]) -> Option<bool> {
    let (is_huffman, data) = string(literal, 0)?;
    let data = &literal[data];
    if !is_huffman {
        return Some(data.iter().copied().any(is_control));
    }
    // The codes of control characters begin with ten ones, as few others do.
    let mut ones = 0;
    let may_have = data.iter().any(|byte| {
        let run = ones + byte.leading_ones();
        ones = if *byte == 0xff { run } else { byte.trailing_ones() };
        run >= ONES_OF_CONTROL
    });
    let mut has_control = false;
    if may_have {
        read_huffman(data, |byte| has_control |= is_control(byte))?;
    }
    Some(has_control)
}

const fn is_control(byte: u8) -> bool {
    byte.is_ascii_control() && byte != b'\t'
}

/// How many fields a block has, spelt out or not, until its end or where it is cut or malformed.
pub(crate) fn count(block: &[u8]) -> usize {
    let (mut at, mut count) = (0, 0);
    while let Some(next) = behind_field(block, at) {
        (at, count) = (next, count + 1);
    }
    count
}

/// The fields of a block without those behind the first `most` that leave the dynamic table as it is (RFC 7541 section 6);
/// `None`: it has none. What is cut or malformed stays.
pub(crate) fn shortened(block: &[u8], most: usize) -> Option<Vec<u8>> {
    if block.len() <= most {
        return None;
    }
    let mut at = 0;
    for _ in 0..most {
        at = behind_field(block, at)?;
    }
    let mut fields = block[..at].to_vec();
    while let Some(next) = behind_field(block, at) {
        let first = block[at];
        if first & 0xc0 == 0x40 || first & 0xe0 == 0x20 {
            fields.extend_from_slice(&block[at..next]);
        }
        at = next;
    }
    fields.extend_from_slice(&block[at..]);
    (fields.len() < block.len()).then_some(fields)
}

/// Where the field at `at` ends.
fn behind_field(block: &[u8], at: usize) -> Option<usize> {
    let first = *block.get(at)?;
    if first & 0x80 != 0 {
        return Some(integer(block, at, 7)?.1);
    } else if first & 0xe0 == 0x20 {
        return Some(integer(block, at, 5)?.1);
    }
    let (index, next) = integer(block, at, if first & 0x40 != 0 { 6 } else { 4 })?;
    let next = if index == 0 { string(block, next)?.1.end } else { next };
    Some(string(block, next)?.1.end)
}

/// Bytes of the updates of the dynamic table's size that a block begins with (RFC 7541 section 4.2); `None`: it is cut.
pub(super) fn size_updates(block: &[u8]) -> Option<usize> {
    let mut at = 0;
    while block.get(at).is_some_and(|first| first & 0xe0 == 0x20) {
        at = integer(block, at, 5)?.1;
    }
    Some(at)
}

/// Appends a string literal, not Huffman-coded (RFC 7541 section 5.2).
pub(super) fn write_string(text: &[u8], out: &mut Vec<u8>) {
    const PREFIX: usize = 0x7f;
    if text.len() < PREFIX {
        out.push(text.len() as u8);
    } else {
        out.push(PREFIX as u8);
        let mut rest = text.len() - PREFIX;
        while rest >= 0x80 {
            out.push((rest & 0x7f) as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
    out.extend_from_slice(text);
}

/// An integer behind a prefix of so many bits (RFC 7541 section 5.1), and where it ends.
fn integer(block: &[u8], mut at: usize, prefix: u32) -> Option<(usize, usize)> {
    let most = (1 << prefix) - 1;
    let mut value = usize::from(*block.get(at)?) & most;
    at += 1;
    if value < most {
        return Some((value, at));
    }
    for shift in [0, 7, 14] {
        let byte = *block.get(at)?;
        at += 1;
        value += usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value, at));
        }
    }
    // Longer than any block.
    None
}

/// Whether the string literal at `at` is Huffman-coded, and where its bytes are.
fn string(block: &[u8], at: usize) -> Option<(bool, Range<usize>)> {
    let is_huffman = block.get(at)? & 0x80 != 0;
    let (length, start) = integer(block, at, 7)?;
    let data = start..start.checked_add(length)?;
    (data.end <= block.len()).then_some((is_huffman, data))
}

fn read_huffman(data: &[u8], mut take: impl FnMut(u8)) -> Option<()> {
    let mut rest = data.iter();
    // The lowest `count` bits are what was read and not decoded.
    let (mut bits, mut count) = (0_u64, 0);
    loop {
        while count <= 56
            && let Some(byte) = rest.next()
        {
            bits = bits << 8 | u64::from(*byte);
            count += 8;
        }
        if count == 0 {
            return Some(());
        }
        let window = bits << (64 - count);
        let (symbol, length) = symbol(window)?;
        if length > count {
            // The padding is the beginning of a code that is all ones (RFC 7541 section 5.2).
            let is_padding = count < 8 && window == u64::MAX << (64 - count);
            return is_padding.then_some(());
        }
        take(symbol);
        count -= length;
    }
}

/// The symbol whose code `window` begins with, and the code's length.
fn symbol(window: u64) -> Option<(u8, u32)> {
    let (symbol, length) = CODE.short[(window >> 56) as usize];
    if length > 0 {
        return Some((symbol, u32::from(length)));
    }
    (SHORT_BITS + 1..=LONGEST_CODE).find_map(|length| {
        let within = ((window >> (64 - length)) as usize).checked_sub(CODE.first[length])?;
        let symbol = CODE.sorted.get(CODE.offset[length] + within)?;
        (within < CODE.count[length]).then_some((*symbol, length as u32))
    })
}

/// What follows from the lengths: the code is canonical, so shorter codes come first, and those of one length are in the
/// order of their symbols.
struct HuffmanCode {
    sorted: [u8; 256],
    /// By length: the first code, where its symbol is in `sorted`, and how many there are.
    first: [usize; LONGEST_CODE + 1],
    offset: [usize; LONGEST_CODE + 1],
    count: [usize; LONGEST_CODE + 1],
    /// By the first eight bits: a symbol and the length of its code; 0: it is longer.
    short: [(u8, u8); 256],
}

static CODE: HuffmanCode = {
    let mut code = HuffmanCode {
        sorted: [0; 256],
        first: [0; LONGEST_CODE + 1],
        offset: [0; LONGEST_CODE + 1],
        count: [0; LONGEST_CODE + 1],
        short: [(0, 0); 256],
    };
    let (mut length, mut next, mut placed) = (1, 0, 0);
    while length <= LONGEST_CODE {
        code.first[length] = next;
        code.offset[length] = placed;
        let mut symbol = 0;
        while symbol < 256 {
            if LENGTHS[symbol] as usize == length {
                code.sorted[placed] = symbol as u8;
                if length <= SHORT_BITS {
                    let spare = SHORT_BITS - length;
                    let mut entry = next << spare;
                    while entry < (next + 1) << spare {
                        code.short[entry] = (symbol as u8, length as u8);
                        entry += 1;
                    }
                }
                placed += 1;
                next += 1;
            }
            symbol += 1;
        }
        code.count[length] = placed - code.offset[length];
        next <<= 1;
        length += 1;
    }
    code
};

const ONES_OF_CONTROL: u32 = 10;
const SHORT_BITS: usize = 8;
const LONGEST_CODE: usize = 30;
/// The length of each symbol's Huffman code (RFC 7541 appendix B).
const LENGTHS: [u8; 256] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28,
    28, 28, 28, 28, 28, 28, 6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6,
    6, 6, 7, 8, 15, 6, 12, 10, 13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7,
    8, 13, 19, 13, 14, 6, 15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7,
    15, 11, 14, 13, 28, 20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24,
    23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24, 22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23,
    23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23, 26, 26, 20, 19, 22, 23, 22, 25, 26,
    26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27, 20, 24, 20,
    21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27,
    27, 27, 26,
];

#[cfg(test)]
mod tests {
    use super::*;

    fn decoded(literal: &[u8]) -> Option<Vec<u8>> {
        let mut text = Vec::new();
        read_string(literal, |byte| text.push(byte)).map(|()| text)
    }

    fn hex(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|two| u8::from_str_radix(std::str::from_utf8(two).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn strings_are_read_as_the_standards_examples_have_them() {
        // RFC 7541 sections C.4 and C.6.
        for (literal, text) in [
            ("8c f1e3 c2e5 f23a 6ba0 ab90 f4ff", "www.example.com"),
            ("86 a8eb 1064 9cbf", "no-cache"),
            ("96 d07a be94 1054 d444 a820 0595 040b 8166 e082 a62d 1bff", "Mon, 21 Oct 2013 20:13:21 GMT"),
            (
                "ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af 2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
                "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1",
            ),
            ("0c 2f73 616d 706c 652f 7061 7468", "/sample/path"),
            ("80", ""),
        ] {
            assert_eq!(decoded(&hex(literal)).as_deref(), Some(text.as_bytes()), "{literal}");
        }
        for malformed in ["", "05 6162", "82 ffff", "81 00", "84 ffff ffff", "ff ffff ffff"] {
            assert_eq!(decoded(&hex(malformed)), None, "{malformed}");
        }
    }

    #[test]
    fn every_symbol_has_a_code_of_its_own() {
        for symbol in 0..=255_u8 {
            let length = usize::from(LENGTHS[usize::from(symbol)]);
            let place = CODE.sorted.iter().position(|sorted| *sorted == symbol).unwrap();
            let code = CODE.first[length] + place - CODE.offset[length];
            let window = (code as u64) << (64 - length);
            assert_eq!(crate::proxy::http2::hpack::symbol(window), Some((symbol, length as u32)));
        }
        assert_eq!(symbol(u64::MAX), None, "the end mark is no symbol");
    }

    #[test]
    fn a_control_character_is_found_in_either_coding() {
        for symbol in 0..=255_u8 {
            let length = LENGTHS[usize::from(symbol)] as usize;
            let place = CODE.sorted.iter().position(|sorted| *sorted == symbol).unwrap();
            let code = (CODE.first[length] + place - CODE.offset[length]) as u64;
            // Behind another symbol, so that it begins at any bit: `0` and `1` have five bits, `a` too.
            for before in 0..8 {
                let (mut bits, mut count) = (0_u128, 0);
                for _ in 0..before {
                    bits <<= 5;
                    count += 5;
                }
                bits = bits << length | u128::from(code);
                count += length;
                let padding = count.next_multiple_of(8) - count;
                bits = bits << padding | ((1 << padding) - 1);
                let bytes = (count + padding) / 8;
                let data = &bits.to_be_bytes()[16 - bytes..];
                let literal = [&[0x80 | bytes as u8][..], data].concat();
                let is_control = symbol < 32 && symbol != b'\t' || symbol == 127;
                assert_eq!(has_control(&literal), Some(is_control), "{symbol} behind {before}");
            }
            let is_control = symbol < 32 && symbol != b'\t' || symbol == 127;
            assert_eq!(has_control(&[3, b'a', symbol, b'b']), Some(is_control), "{symbol}");
        }
        assert_eq!(has_control(&[5, b'a']), None);
    }

    #[test]
    fn a_string_that_is_written_reads_the_same() {
        for length in [0, 1, 126, 127, 128, 254, 255, 300, 20_000] {
            let text = vec![b'x'; length];
            let mut literal = Vec::new();
            write_string(&text, &mut literal);
            assert_eq!(decoded(&literal), Some(text));
        }
    }

    #[test]
    fn all_fields_of_a_block_are_counted() {
        assert_eq!(count(&hex("82 86 84 41 0f 7777 772e 6578 616d 706c 652e 636f 6d")), 4);
        assert_eq!(count(&hex("00 01 78 01 79 04 01 2f be be be")), 5);
        assert_eq!(count(&hex("82 00 05 78")), 1, "cut");
        assert_eq!(count(&[0xbe; 3000]), 3000);
    }

    #[test]
    fn a_block_with_many_fields_keeps_the_first_and_what_the_dynamic_table_gains() {
        let kept = |block: &str, most| shortened(&hex(block), most);
        assert_eq!(
            kept("82 be be 40 01 78 01 79 be 3f e1 1f 04 01 2f 7e 00 82", 2),
            Some(hex("82 be 40 01 78 01 79 3f e1 1f 7e 00"))
        );
        assert_eq!(kept("82 be be", 3), None, "no more than so many");
        assert_eq!(kept("82 be 40 01 78 01 79", 1).unwrap(), hex("82 40 01 78 01 79"));
        assert_eq!(kept("82 7e 00 7e 00", 1), None, "all of them count for the table");
        assert_eq!(kept("82 be be 00 05 78", 1), Some(hex("82 00 05 78")), "cut");
    }

    #[test]
    fn what_a_block_spells_out_is_found() {
        // RFC 7541 sections C.2, C.3.1 and C.6, and the forms without indexing.
        let found = |block: &str| {
            let block = hex(block);
            let all = literals(&block).map(|literal| {
                let name = match literal.name {
                    FieldName::Index(index) => index.to_string(),
                    FieldName::Spelt(name) => String::from_utf8(decoded(&block[name]).unwrap()).unwrap(),
                };
                let value = String::from_utf8(decoded(&block[literal.value]).unwrap()).unwrap();
                format!("{name}={value}{}", if literal.is_indexed { "+" } else { "" })
            });
            all.collect::<Vec<_>>().join(" ")
        };
        assert_eq!(found("82 86 84 41 0f 7777 772e 6578 616d 706c 652e 636f 6d"), "1=www.example.com+");
        assert_eq!(found("82 04 0c 2f73 616d 706c 652f 7061 7468"), "4=/sample/path");
        assert_eq!(found("3f e1 1f 82 87 41 01 78 44 02 2f 61"), "1=x+ 4=/a+");
        assert_eq!(found("82 be 15 02 2f 61"), "5=/a", "never indexed, behind the dynamic table");
        assert_eq!(found("00 01 78 01 79 04 01 2f"), "x=y 4=/");
        assert_eq!(found("0f 2b 01 61 04 01 2f"), "58=a 4=/");
        assert_eq!(found("40 84 b9 58 d3 3f 01 2f"), ":path=/+", "a name in Huffman's code");
        for cut in ["04", "04 05 2f", "44 ff", "ff ff ff ff ff", "00", "00 01 78"] {
            assert_eq!(found(cut), "", "{cut}");
        }
    }
}
