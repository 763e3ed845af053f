//! What a tenant may reach and use, and what this machine can give.
//!
//! Plain data. Text from flags and files becomes a type that cannot be wrong, or an error that says what to write.

pub mod driver;
pub mod file;
pub mod limits;
pub mod machine;
pub mod net;
pub mod rollback;
pub mod tenant;
pub mod units;
pub mod wall;
pub mod warn;
