//! What a component is run as: its exports tell, and the options must go with it.

use crate::{
    config::tenant::{Instances, Isolation, TenantConfig},
    sandbox::scan::Scan,
};

/// What a component is run as.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// A program whose coroutines share its instance.
    SharedProgram,
    /// A program with one coroutine in its instance.
    PlainProgram,
    /// An ordinary `fn main`: wasi:cli/run.
    Command,
    /// A handler with an instance for each connection.
    IsolatedHandler,
    /// A handler with an instance for each worker.
    SharedHandler,
}

impl Role {
    /// Chooses. An error says which option to change.
    pub fn choose(scan: &Scan, config: &TenantConfig) -> Result<Self, String> {
        let role = if scan.fiber_program {
            Role::SharedProgram
        } else if scan.program {
            Role::PlainProgram
        } else if scan.handler || scan.fiber_handler {
            Role::handler(scan, config.isolation)?
        } else {
            Role::Command
        };
        if !role.is_handler() && config.isolation == Isolation::Shared {
            return Err("isolation is for handlers, and this component is a program".to_owned());
        }
        if role.is_handler() && config.instances == Instances::PerWorker {
            return Err("instances is for programs, and this component is a handler".to_owned());
        }
        Ok(role)
    }

    fn handler(scan: &Scan, isolation: Isolation) -> Result<Self, String> {
        match isolation {
            Isolation::Connection if scan.handler => Ok(Role::IsolatedHandler),
            Isolation::Connection => {
                Err("this handler can only share instances: run it with isolation `shared`".to_owned())
            }
            Isolation::Shared if scan.fiber_handler => Ok(Role::SharedHandler),
            Isolation::Shared => Err("isolation `shared` needs a handler made for it: write \
                                      #[conet::handler(shared)] in the guest, or leave isolation out"
                .to_owned()),
        }
    }

    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Role::SharedProgram => "shared program",
            Role::PlainProgram => "program",
            Role::Command => "command",
            Role::IsolatedHandler => "handler",
            Role::SharedHandler => "shared handler",
        }
    }

    /// Does the host listen for it?
    pub fn is_handler(self) -> bool {
        matches!(self, Role::IsolatedHandler | Role::SharedHandler)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_wins_over_its_own_main() {
        let scan = Scan { fiber_program: true, program: true, command: true, ..Scan::default() };
        assert_eq!(Role::choose(&scan, &TenantConfig::new("t")), Ok(Role::SharedProgram));
    }

    #[test]
    fn a_plain_handler_cannot_be_shared() {
        let scan = Scan { handler: true, command: true, ..Scan::default() };
        let mut config = TenantConfig::new("t");
        assert_eq!(Role::choose(&scan, &config), Ok(Role::IsolatedHandler));
        config.isolation = Isolation::Shared;
        let error = Role::choose(&scan, &config).expect_err("not made for it");
        assert!(error.contains("#[conet::handler(shared)]"), "{error}");
    }
}
