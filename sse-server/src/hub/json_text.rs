//! Any JSON, kept as text.

use std::fmt;

use serde::de::{self, DeserializeSeed, MapAccess, SeqAccess};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;

/// Any JSON, kept as compact text.
///
/// What a client sends is held as long as it was. A tree of [`Value`]s takes many times the text: 72 bytes for each `0,` of an
/// array.
///
/// ```
/// use sse_server::hub::JsonText;
///
/// let json = JsonText::from(serde_json::json!({"url": "/s/1"}));
/// assert_eq!(json.as_str(), r#"{"url":"/s/1"}"#);
/// ```
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JsonText(Box<RawValue>);

impl JsonText {
    /// Reads JSON in which nothing stands deeper than `max_depth`; the whole has depth 1.
    ///
    /// # Errors
    ///
    /// When a tree of [`Value`]s could not be read from it, when it is nested deeper, or when a name in it means something of
    /// its own to the JSON library.
    pub(crate) fn read(json: &RawValue, max_depth: usize) -> Result<Self, serde_json::Error> {
        let mut text = Vec::with_capacity(json.get().len());
        let copy = Copy {
            text: &mut text,
            depth: 1,
            max_depth,
        };
        copy.deserialize(&mut serde_json::Deserializer::from_str(json.get()))?;
        let text = String::from_utf8(text).map_err(de::Error::custom)?;
        RawValue::from_string(text).map(Self)
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.get()
    }

    /// What it takes beside the place that it stands in: its text, and the allocator's part.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.as_str().len() + 16
    }

    pub(crate) fn is_number(&self) -> bool {
        self.as_str()
            .starts_with(|c: char| c == '-' || c.is_ascii_digit())
    }
}

impl From<Value> for JsonText {
    fn from(value: Value) -> Self {
        let text = serde_json::value::to_raw_value(&value);
        Self(text.expect("a value is JSON"))
    }
}

impl PartialEq for JsonText {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

/// Writes what it reads, without a tree between.
struct Copy<'a> {
    text: &'a mut Vec<u8>,
    depth: usize,
    max_depth: usize,
}

impl Copy<'_> {
    fn write<E: de::Error>(&mut self, value: &(impl Serialize + ?Sized)) -> Result<(), E> {
        serde_json::to_writer(&mut *self.text, value).map_err(E::custom)
    }

    fn deeper(&mut self) -> Copy<'_> {
        Copy {
            text: &mut *self.text,
            depth: self.depth + 1,
            max_depth: self.max_depth,
        }
    }
}

impl<'de> DeserializeSeed<'de> for Copy<'_> {
    type Value = ();

    fn deserialize<D: de::Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        if self.depth > self.max_depth {
            let problem = format_args!("is nested deeper than {} levels", self.max_depth);
            return Err(de::Error::custom(problem));
        }
        deserializer.deserialize_any(self)
    }
}

impl<'de> de::Visitor<'de> for Copy<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: de::Error>(mut self) -> Result<(), E> {
        self.write(&())
    }

    fn visit_bool<E: de::Error>(mut self, value: bool) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_i64<E: de::Error>(mut self, value: i64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_u64<E: de::Error>(mut self, value: u64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_f64<E: de::Error>(mut self, value: f64) -> Result<(), E> {
        self.write(&value)
    }

    fn visit_str<E: de::Error>(mut self, value: &str) -> Result<(), E> {
        self.write(value)
    }

    fn visit_seq<S: SeqAccess<'de>>(mut self, mut values: S) -> Result<(), S::Error> {
        self.text.push(b'[');
        loop {
            let end = self.text.len();
            if !self.text.ends_with(b"[") {
                self.text.push(b',');
            }
            if values.next_element_seed(self.deeper())?.is_none() {
                self.text.truncate(end);
                break;
            }
        }
        self.text.push(b']');
        Ok(())
    }

    fn visit_map<M: MapAccess<'de>>(mut self, mut fields: M) -> Result<(), M::Error> {
        self.text.push(b'{');
        while let Some(name) = fields.next_key::<String>()? {
            check_name(&name)?;
            if !self.text.ends_with(b"{") {
                self.text.push(b',');
            }
            self.write(&name)?;
            self.text.push(b':');
            fields.next_value_seed(self.deeper())?;
        }
        self.text.push(b'}');
        Ok(())
    }
}

/// Refuses names that mean something of its own to the JSON library.
fn check_name<E: de::Error>(name: &str) -> Result<(), E> {
    if name.starts_with("$serde_json::") {
        return Err(E::custom("has a name that begins with `$serde_json::`"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(json: &str) -> Result<JsonText, serde_json::Error> {
        JsonText::read(serde_json::from_str(json).unwrap(), 3)
    }

    #[test]
    fn it_is_what_a_tree_would_write() {
        for json in [
            "null",
            "[ ]",
            "{ }",
            "[[],[ ],{}]",
            r#"[ true, -1, 18446744073709551615, 1.50, 1e15, 36893488147419103232, "\u00e9\n\ud83d\ude00" ]"#,
            r#"{ "a" : { "b" : [ ] , "c" : {} } , "" : "[" , "d" : "{" }"#,
        ] {
            let tree: Value = serde_json::from_str(json).unwrap();
            assert_eq!(read(json).unwrap(), JsonText::from(tree), "{json}");
        }
    }

    #[test]
    fn what_no_tree_could_be_read_from_is_refused() {
        for (json, problem) in [
            ("[[[1]]]", "nested deeper than 3 levels"),
            (r#"{"a":{"b":{"c":1}}}"#, "nested deeper than 3 levels"),
            ("1e999", "number out of range"),
            (r#""\ud800""#, "hex escape"),
            (r#"{"$serde_json::private::Number":"1"}"#, "$serde_json::"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(problem), "{json}: {error}");
        }
        assert!(read("[[[]]]").is_ok());
    }

    proptest! {
        #[test]
        fn any_text_that_is_json_stays_the_same_json(json in r#"[\[\]{}:,"a0 .e-]{0,12}"#) {
            let Ok(raw) = serde_json::from_str::<&RawValue>(&json) else { return Ok(()) };
            let tree: Result<Value, _> = serde_json::from_str(&json);
            match JsonText::read(raw, 128) {
                Ok(read) => prop_assert_eq!(serde_json::from_str::<Value>(read.as_str()).unwrap(), tree.unwrap()),
                Err(_) => prop_assert!(tree.is_err()),
            }
        }
    }
}
