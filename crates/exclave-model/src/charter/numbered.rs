//! Enumerations that charters hold as numbers and people write as words.

macro_rules! numbered {
    ($name:ident { $($variant:ident = $number:literal : $text:literal),+ $(,)? }) => {
        impl $name {
            /// The number in charters.
            pub const fn number(self) -> u8 {
                match self { $(Self::$variant => $number),+ }
            }

            /// The word in settings and output.
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }

            /// Every value, in order.
            pub const ALL: &'static [Self] = &[$(Self::$variant),+];
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad(self.as_str())
            }
        }

        impl std::str::FromStr for $name {
            type Err = String;

            fn from_str(text: &str) -> Result<Self, String> {
                $crate::charter::by_word(Self::ALL, |value| value.as_str(), text)
            }
        }

        impl<C> Encode<C> for $name {
            fn encode<W: minicbor::encode::Write>(
                &self,
                encoder: &mut minicbor::Encoder<W>,
                _: &mut C,
            ) -> Result<(), minicbor::encode::Error<W::Error>> {
                encoder.u8(self.number())?.ok()
            }
        }

        impl<'b, C> Decode<'b, C> for $name {
            fn decode(
                decoder: &mut minicbor::Decoder<'b>,
                _: &mut C,
            ) -> Result<Self, minicbor::decode::Error> {
                match decoder.u8()? {
                    $($number => Ok(Self::$variant),)+
                    _ => Err(minicbor::decode::Error::message(concat!(stringify!($name), " has an unknown number"))),
                }
            }
        }
    };
}

pub(crate) use numbered;

/// The value that a word stands for, or the words that there are.
pub(crate) fn by_word<T: Copy>(all: &[T], word: impl Fn(T) -> &'static str, text: &str) -> Result<T, String> {
    all.iter().copied().find(|value| word(*value) == text).ok_or_else(|| {
        let words: Vec<_> = all.iter().map(|value| word(*value)).collect();
        format!("expected one of {}, found {text:?}", words.join(", "))
    })
}
