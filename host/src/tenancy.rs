//! Tenants: a component, its limits and grants, and the coroutines that run it on the workers.

pub mod role;
pub mod spawner;
pub mod supervisor;
pub mod tenant;
