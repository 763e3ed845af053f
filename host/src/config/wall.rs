//! What of the second wall is wished for.

/// A part of the wall that a kernel, or a container, may lack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Guard {
    /// Not raised.
    Off,
    /// Raised where it can be had; where not, that is told.
    #[default]
    On,
    /// Without it the host does not start.
    Required,
}

/// The filter of system calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CallFilter {
    /// None.
    Off,
    /// It refuses, where it can be had; where not, that is told.
    #[default]
    On,
    /// It refuses nothing, and the kernel logs what it would refuse.
    Log,
    /// It refuses, and without it the host does not start.
    Required,
}

/// Which capabilities the host keeps once it listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Capabilities {
    /// None.
    #[default]
    None,
    /// The one for ports below 1024.
    NetBindService,
    /// Those it was started with.
    Keep,
}
