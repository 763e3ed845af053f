//! Ending the program with a code. std's own exit passes on only whether the code is 0.

mod bindings {
    #![allow(
        missing_docs,
        dead_code,
        unreachable_pub,
        unsafe_op_in_unsafe_fn,
        clippy::all,
        clippy::undocumented_unsafe_blocks,
        clippy::allow_attributes_without_reason,
        reason = "generated code"
    )]

    // With what std imports of it, or the linker could not make one interface of the two.
    wit_bindgen::generate!({
        inline: "
            package wasi:cli@0.2.11;
            interface exit {
                exit: func(status: result);
                exit-with-code: func(status-code: u8);
            }
            world exits { import exit; }
        ",
        world: "exits",
    });

    pub(crate) use wasi::cli::exit::exit_with_code;
}

pub(crate) fn exit(code: u8) -> ! {
    bindings::exit_with_code(code);
    unreachable!("the host ends the instance in the call")
}
