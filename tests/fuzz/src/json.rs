//! Changes to a JSON document that leave it one.
//!
//! Bytes that are changed at random break a document long before they say anything odd in it, and then
//! only the parser is tried. So three changes of four are made to its values; the others are the
//! fuzzer's own.

use libfuzzer_sys::fuzzer_mutate;
use serde_json::{Value, json};

/// Chance by numbers (xorshift64*), the same for the same seed.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        let number = self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33;
        usize::try_from(number).unwrap_or_default() % end.max(1)
    }
}

/// Changes the document in the first `size` bytes of `data`; the result has at most `max` bytes.
pub fn mutate(data: &mut [u8], size: usize, max: usize, seed: u32) -> usize {
    let mut chance = Chance(u64::from(seed) << 8 | 0x5a);
    chance.below(1);
    if chance.below(4) > 0
        && let Ok(mut value) = serde_json::from_slice::<Value>(&data[..size])
    {
        for _ in 0..=chance.below(3) {
            change(&mut value, &mut chance);
        }
        let text = value.to_string();
        if text.len() <= max.min(data.len()) {
            data[..text.len()].copy_from_slice(text.as_bytes());
            return text.len();
        }
    }
    fuzzer_mutate(data, size, max)
}

fn nodes(value: &Value) -> usize {
    1 + match value {
        Value::Array(list) => list.iter().map(nodes).sum(),
        Value::Object(map) => map.values().map(nodes).sum::<usize>(),
        _ => 0,
    }
}

fn node(value: &mut Value, mut number: usize) -> Option<&mut Value> {
    if number == 0 {
        return Some(value);
    }
    number -= 1;
    let children: Vec<&mut Value> = match value {
        Value::Array(list) => list.iter_mut().collect(),
        Value::Object(map) => map.values_mut().collect(),
        _ => return None,
    };
    for child in children {
        let count = nodes(child);
        if number < count {
            return node(child, number);
        }
        number -= count;
    }
    None
}

fn change(root: &mut Value, chance: &mut Chance) {
    let (count, other) = (nodes(root), chance.below(8));
    let donor = node(root, chance.below(count)).cloned();
    let Some(place) = node(root, chance.below(count)) else { return };
    match (other, &mut *place) {
        (0..=3, Value::String(text)) => *text = changed(text, chance),
        (0 | 1, Value::Array(list)) if !list.is_empty() => {
            let at = chance.below(list.len());
            if chance.below(2) == 0 {
                list.remove(at);
            } else {
                list.insert(at, list[chance.below(list.len())].clone());
            }
        }
        (0, Value::Object(map)) if !map.is_empty() => {
            let key = map.keys().nth(chance.below(map.len())).cloned().unwrap_or_default();
            map.remove(&key);
        }
        (4, _) => *place = donor.filter(|donor| nodes(donor) < 50).unwrap_or_default(),
        _ => *place = odd(chance),
    }
}

/// A text that is JSON itself stays so.
fn changed(text: &str, chance: &mut Chance) -> String {
    if text.starts_with(['[', '{'])
        && let Ok(mut inner) = serde_json::from_str::<Value>(text)
    {
        change(&mut inner, chance);
        return inner.to_string();
    }
    let mut bytes = text.as_bytes().to_vec();
    let size = bytes.len();
    bytes.resize(size + 64, 0);
    let max = bytes.len();
    let size = fuzzer_mutate(&mut bytes, size, max);
    String::from_utf8_lossy(&bytes[..size]).into_owned()
}

fn odd(chance: &mut Chance) -> Value {
    match chance.below(20) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(0),
        3 => json!(-1),
        4 => json!(u64::MAX),
        5 => json!(i64::MIN),
        6 => json!(1.5e300),
        7 => json!(u32::MAX),
        8 => json!([]),
        9 => json!({}),
        10 => json!(""),
        11 => json!("\u{1b}[2J\u{7}\u{202e}\n"),
        12 => json!("ä".repeat(301)),
        13 => json!("+262142-12-31T23:59:59Z"),
        14 => json!("-262143-01-01T00:00:00Z"),
        15 => json!("18446744073709551616"),
        16 => json!("ci--small--0123456789ab"),
        17 => json!("2026-11-28T12:00:00.5+01:00"),
        18 => json!(chance.below(1000)),
        _ => json!(["self-hosted", null, 7, "linux"]),
    }
}
