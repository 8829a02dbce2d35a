//! Fields that are read as far as they can be: one that is of another type than GitHub documents is as
//! one that is not there, and costs nothing else. What is not wanted is skipped without being kept, so
//! that a body takes no more memory than it is long.

use std::fmt;

use runner_fleet_actors::{foreign::Foreign, port::Time};
use serde::{
    Deserialize, Deserializer,
    de::{IgnoredAny, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

/// Labels that are kept: one more than a runner can have, so that a job with too many fits none.
const LABELS_MAX: usize = 101;

/// A single value, whatever it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) enum Scalar {
    Text(String),
    Number(u64),
    Flag(bool),
    /// Nothing, or nothing that could be of use.
    #[default]
    Other,
}

impl Scalar {
    pub fn as_str(&self) -> Option<&str> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text),
            _ => None,
        }
    }

    pub fn text(self) -> Option<Foreign> {
        match self {
            Self::Text(text) if !text.is_empty() => Some(text.into()),
            _ => None,
        }
    }

    /// Some senders write numbers as texts.
    pub fn number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            Self::Text(text) => text.trim().parse().ok(),
            Self::Flag(_) | Self::Other => None,
        }
    }

    pub fn flag(&self) -> Option<bool> {
        match self {
            Self::Flag(flag) => Some(*flag),
            _ => None,
        }
    }

    pub fn time(&self) -> Option<Time> {
        self.as_str()?.parse().ok()
    }
}

fn skip_list<'de, A: SeqAccess<'de>>(mut list: A) -> Result<(), A::Error> {
    while list.next_element::<IgnoredAny>()?.is_some() {}
    Ok(())
}

fn skip_object<'de, A: MapAccess<'de>>(mut object: A) -> Result<(), A::Error> {
    while object.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
    Ok(())
}

/// What a visitor makes of values that it has no use for.
macro_rules! nothing_of {
    ($value:expr; $($visit:ident: $given:ty),*) => {
        $(fn $visit<E>(self, _: $given) -> Result<Self::Value, E> {
            Ok($value)
        })*
        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok($value)
        }
    };
}

impl<'de> Deserialize<'de> for Scalar {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Scalar;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value")
            }

            nothing_of!(Scalar::Other; visit_i64: i64, visit_f64: f64);

            fn visit_str<E>(self, text: &str) -> Result<Scalar, E> {
                Ok(Scalar::Text(text.to_owned()))
            }

            fn visit_string<E>(self, text: String) -> Result<Scalar, E> {
                Ok(Scalar::Text(text))
            }

            fn visit_u64<E>(self, number: u64) -> Result<Scalar, E> {
                Ok(Scalar::Number(number))
            }

            fn visit_bool<E>(self, flag: bool) -> Result<Scalar, E> {
                Ok(Scalar::Flag(flag))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Scalar, A::Error> {
                skip_list(list).map(|()| Scalar::Other)
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Scalar, A::Error> {
                skip_object(object).map(|()| Scalar::Other)
            }
        }
        deserializer.deserialize_any(Any)
    }
}

/// The labels of a job; one that is no text costs itself. One text alone is one label.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Labels(pub Vec<Foreign>);

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct List;
        impl<'de> Visitor<'de> for List {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of labels")
            }

            nothing_of!(Labels::default();
                visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_bool: bool);

            fn visit_str<E>(self, text: &str) -> Result<Labels, E> {
                let label = Scalar::Text(text.to_owned()).text();
                Ok(Labels(label.into_iter().collect()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::new();
                while labels.len() < LABELS_MAX {
                    let Some(element) = list.next_element::<Scalar>()? else {
                        return Ok(Labels(labels));
                    };
                    labels.extend(match element {
                        // `runs-on: [self-hosted, 22]`.
                        Scalar::Number(number) => Some(number.to_string().into()),
                        other => other.text(),
                    });
                }
                skip_list(list).map(|()| Labels(labels))
            }

            fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Labels, A::Error> {
                skip_object(object).map(|()| Labels::default())
            }
        }
        deserializer.deserialize_any(List)
    }
}

/// An object; `None` for whatever is none.
pub(super) fn object<'de, D, T>(deserializer: D) -> Result<Option<T>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    struct Object<T>(std::marker::PhantomData<T>);
    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = Option<T>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        nothing_of!(None;
            visit_i64: i64, visit_u64: u64, visit_f64: f64, visit_bool: bool, visit_str: &str);

        fn visit_seq<A: SeqAccess<'de>>(self, list: A) -> Result<Self::Value, A::Error> {
            skip_list(list).map(|()| None)
        }

        fn visit_map<A: MapAccess<'de>>(self, object: A) -> Result<Self::Value, A::Error> {
            T::deserialize(MapAccessDeserializer::new(object)).map(Some)
        }
    }
    deserializer.deserialize_any(Object(std::marker::PhantomData))
}
