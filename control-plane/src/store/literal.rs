//! Values as SQL literals, for a text that is sent as a whole: only so do several statements go to
//! Postgres at once. Everything else binds its values.
//!
//! Safe because each connection is told that a backslash is an ordinary character in a literal
//! (`standard_conforming_strings`), because texts are UTF-8 on both sides, where the byte of a quote
//! is never part of another character, and because bytes and numbers are written with digits only.
//! Inside a record or a list every value stands in double quotes, where a backslash makes what follows
//! it ordinary.

use std::fmt::Write as _;

/// Collects the fields of one record, in the order of its type.
#[derive(Debug, Default)]
pub(super) struct Record {
    text: String,
    has_fields: bool,
}

impl Record {
    /// Adds a text. Postgres stores no NUL character, so the whole is refused with one.
    pub(super) fn text(&mut self, text: &str) -> &mut Self {
        self.begin();
        quote(&mut self.text, text);
        self
    }

    /// Adds a text, if there is one.
    pub(super) fn optional_text(&mut self, text: Option<&str>) -> &mut Self {
        match text {
            Some(text) => self.text(text),
            None => self.null(),
        }
    }

    /// Adds a list of texts.
    pub(super) fn texts(&mut self, texts: &[String]) -> &mut Self {
        let mut list = String::from("{");
        for (index, text) in texts.iter().enumerate() {
            if index > 0 {
                list.push(',');
            }
            quote(&mut list, text);
        }
        list.push('}');
        self.text(&list)
    }

    /// Adds bytes.
    pub(super) fn bytes(&mut self, bytes: &[u8]) -> &mut Self {
        self.text(&format!("\\x{}", audit::hex::encode(bytes)))
    }

    /// Adds bytes, if there are some.
    pub(super) fn optional_bytes(&mut self, bytes: Option<&[u8]>) -> &mut Self {
        match bytes {
            Some(bytes) => self.bytes(bytes),
            None => self.null(),
        }
    }

    /// Adds a number, if there is one.
    pub(super) fn optional_number(&mut self, number: Option<i64>) -> &mut Self {
        self.begin();
        if let Some(number) = number {
            // Writing to a text does not fail.
            let _ = write!(self.text, "{number}");
        }
        self
    }

    /// Adds what is absent: nothing between two commas.
    pub(super) fn null(&mut self) -> &mut Self {
        self.begin();
        self
    }

    /// The record as a literal; `None` if a text has a NUL character, at which the server would stop
    /// reading.
    pub(super) fn finish(self) -> Option<String> {
        (!self.text.contains('\0')).then(|| format!("'({})'", self.text.replace('\'', "''")))
    }

    fn begin(&mut self) {
        if self.has_fields {
            self.text.push(',');
        }
        self.has_fields = true;
    }
}

/// Bytes as a literal.
pub(super) fn bytes(bytes: &[u8]) -> String {
    format!("'\\x{}'", audit::hex::encode(bytes))
}

fn quote(to: &mut String, text: &str) {
    to.push('"');
    for character in text.chars() {
        if matches!(character, '"' | '\\') {
            to.push('\\');
        }
        to.push(character);
    }
    to.push('"');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_is_one_field() {
        let mut to = Record::default();
        to.text("it's").text("'; DROP TABLE x; --").text("\\'").text("").null();
        to.bytes(&[0, 255]).optional_number(Some(-5)).optional_text(None).optional_bytes(None);
        to.texts(&["a,b".into(), "'\"}".into(), "NULL".into()]).texts(&[]).text("(),\n\"");
        assert_eq!(
            to.finish().as_deref(),
            Some(
                "'(\"it''s\",\"''; DROP TABLE x; --\",\"\\\\''\",\"\",,\"\\\\x00ff\",-5,,,\
                 \"{\\\"a,b\\\",\\\"''\\\\\\\"}\\\",\\\"NULL\\\"}\",\"{}\",\"(),\n\\\"\")'"
            )
        );
        assert_eq!(bytes(&[0, 255]), "'\\x00ff'");
    }

    #[test]
    fn absent_fields_keep_their_places() {
        let mut to = Record::default();
        to.null().null().text("a");
        assert_eq!(to.finish().as_deref(), Some("'(,,\"a\")'"));
    }

    #[test]
    fn a_nul_character_is_refused() {
        let mut to = Record::default();
        to.text("a\0b");
        assert_eq!(to.finish(), None);
    }
}
