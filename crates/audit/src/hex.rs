//! Lower-case hexadecimal, and nothing else: one value has one spelling.

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

const DIGITS: &[u8; 16] = b"0123456789abcdef";

/// Writes `bytes` in lower-case hexadecimal.
pub fn encode(bytes: &[u8]) -> String {
    bytes
        .iter()
        .flat_map(|byte| [byte >> 4, byte & 15])
        .map(|digit| char::from(DIGITS[usize::from(digit)]))
        .collect()
}

/// Reads exactly `N` bytes; `None` for any other length, and for upper case.
pub fn decode<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digits = text.as_bytes();
    if digits.len() != 2 * N {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        *byte = value(pair[0])? << 4 | value(pair[1])?;
    }
    Some(bytes)
}

fn value(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    }
}

/// Bytes that JSON shows in hexadecimal.
pub(crate) struct Hex<const N: usize>(pub(crate) [u8; N]);

impl<const N: usize> Serialize for Hex<N> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&encode(&self.0))
    }
}

impl<'de, const N: usize> Deserialize<'de> for Hex<N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let malformed = || de::Error::custom(format_args!("not {N} bytes in lower-case hex"));
        decode(&text).map(Self).ok_or_else(malformed)
    }
}

/// For `#[serde(with = "hex::one")]`.
pub(crate) mod one {
    use super::*;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &[u8; N],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        Hex(*bytes).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<[u8; N], D::Error> {
        Ok(Hex::deserialize(deserializer)?.0)
    }
}

/// For `#[serde(with = "hex::optional")]`.
pub(crate) mod optional {
    use super::*;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        bytes: &Option<[u8; N]>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        bytes.map(Hex).serialize(serializer)
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Option<[u8; N]>, D::Error> {
        Ok(Option::<Hex<N>>::deserialize(deserializer)?.map(|hex| hex.0))
    }
}

/// For `#[serde(with = "hex::list")]`.
pub(crate) mod list {
    use super::*;

    pub(crate) fn serialize<S: Serializer, const N: usize>(
        items: &[[u8; N]],
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(items.iter().copied().map(Hex))
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>, const N: usize>(
        deserializer: D,
    ) -> Result<Vec<[u8; N]>, D::Error> {
        let items = Vec::<Hex<N>>::deserialize(deserializer)?;
        Ok(items.into_iter().map(|hex| hex.0).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_has_one_spelling() {
        assert_eq!(encode(&[0, 0xaf, 0x10]), "00af10");
        assert_eq!(decode("00af10"), Some([0, 0xaf, 0x10]));
        for other in ["00AF10", "00af1", "00af1000", " 0af10", "00af1g", "00äf1"] {
            assert_eq!(decode::<3>(other), None, "{other}");
        }
    }
}
