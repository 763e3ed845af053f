//! Sections as types: a field for each key, from which the file is read and the reference is written.

use super::table::Table;

/// A key, for the reference.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Key {
    /// As it is written.
    pub(crate) name: &'static str,
    /// The lines of its description.
    pub(crate) about: &'static [&'static str],
    /// What may be written there.
    pub(crate) written: &'static str,
    /// What it is if nothing is; empty if it must be given.
    pub(crate) default: &'static str,
}

/// Something a table is read into.
pub(crate) trait Read: Sized {
    /// Reads what there is; the table is told what is known.
    fn read(table: &Table<'_>) -> Self;

    /// Keys for what conet does not have, and what that is.
    const ABSENT: &'static [(&'static str, &'static str)] = &[];
}

/// A table of known keys.
pub(crate) trait Section: Read {
    /// What it is for.
    const ABOUT: &'static [&'static str];
    /// Its keys, in the order of the reference.
    const KEYS: &'static [Key];

    /// What is said here, and else what `below` says.
    fn over(self, below: &Self) -> Self;
}

/// Declares a section: every key is optional here, and what must be given is found missing later.
macro_rules! section {
    (
        $(#[doc = $about:literal])+
        $visible:vis struct $name:ident {
            $( $(#[doc = $doc:literal])+ $key:literal: $field:ident: $type:ty = $default:literal, )+
        }
        $( absent { $( $absent:literal: $why:literal, )+ } )?
    ) => {
        $(#[doc = $about])+
        #[derive(Debug, Clone, Default)]
        $visible struct $name {
            $( $(#[doc = $doc])+ $visible $field: Option<$crate::config::file::setting::At<$type>>, )+
        }

        impl $crate::config::file::section::Section for $name {
            const ABOUT: &'static [&'static str] = &[$($about),+];
            const KEYS: &'static [$crate::config::file::section::Key] = &[$(
                $crate::config::file::section::Key {
                    name: $key,
                    about: &[$($doc),+],
                    written: <$type as $crate::config::file::setting::Setting>::WRITTEN,
                    default: $default,
                }
            ),+];

            fn over(self, below: &Self) -> Self {
                Self { $($field: self.$field.or_else(|| below.$field.clone())),+ }
            }
        }

        impl $crate::config::file::section::Read for $name {
            fn read(table: &$crate::config::file::table::Table<'_>) -> Self {
                Self { $($field: table.take($key)),+ }
            }

            $( const ABSENT: &'static [(&'static str, &'static str)] = &[$(($absent, $why)),+]; )?
        }
    };
}

pub(super) use section;
