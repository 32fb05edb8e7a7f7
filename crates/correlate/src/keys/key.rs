//! The bytes of a key, in place if they are few.

use std::ops::Deref;

/// Bytes of a key that need no memory of their own.
const SHORT: usize = 22;

/// The bytes of a key.
#[derive(Debug, Clone)]
pub enum KeyBytes {
    /// So many, in place.
    Short(u8, [u8; SHORT]),
    /// More.
    Long(Box<[u8]>),
}

impl KeyBytes {
    /// A copy of some bytes.
    pub fn new(bytes: &[u8]) -> Self {
        let mut short = [0; SHORT];
        match short.get_mut(..bytes.len()) {
            Some(place) => {
                place.copy_from_slice(bytes);
                Self::Short(bytes.len() as u8, short)
            }
            None => Self::Long(bytes.into()),
        }
    }
}

impl Deref for KeyBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        match self {
            Self::Short(len, bytes) => bytes.get(..usize::from(*len)).unwrap_or_default(),
            Self::Long(bytes) => bytes,
        }
    }
}
