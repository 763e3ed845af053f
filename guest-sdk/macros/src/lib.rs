//! The attribute macros of `conet-guest-sdk`, documented there.
//!
//! Each keeps the function under another name, writes a `fn main` for the binary crate, and leaves the exports to a macro of
//! the SDK.

#![warn(missing_docs)]

mod options;

use proc_macro::TokenStream;
use proc_macro2::Span;
use quote::quote;
use syn::ext::IdentExt;
use syn::{Error, Ident, ItemFn, parse_macro_input};

use options::Options;

/// Makes `fn main` a program: it listens, connects and starts coroutines itself.
///
/// It takes nothing (arguments are in `std::env::args`) and returns nothing or a `Result`; an error is printed to standard
/// error, and the program has failed. When it returns, the program's other coroutines end.
///
/// `#[conet::main(stack = 65536)]` sets the stack of each coroutine in bytes; the default is 32 KiB. Overrunning it ends the
/// instance.
#[proc_macro_attribute]
pub fn main(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let function = parse_macro_input!(item as ItemFn);
    if let Err(error) = options.deny_shared().and_then(|()| check(&function, "main", 0)) {
        return error.into_compile_error().into();
    }
    let stack = options.stack_bytes();
    let (name, function) = renamed(function);
    quote! {
        #function

        fn main() -> ::std::process::ExitCode {
            ::conet::__rt::main(#name)
        }

        #[cfg(target_family = "wasm")]
        ::conet::__program!(#name, #stack);
    }
    .into()
}

/// Makes a `fn(TcpStream)` a handler: the host listens, accepts, and calls it once for each connection.
///
/// It returns nothing or a `Result`; an error is counted by the host, and the connection closes either way. Each connection
/// has an instance of its own, unless `#[conet::handler(shared)]` allows the host to run all of them as coroutines of one;
/// `#[conet::handler(shared, stack = 65536)]` sets the stack of each in bytes.
///
/// Built for the native target the program listens on the address in its first argument, by default 127.0.0.1:7000.
#[proc_macro_attribute]
pub fn handler(options: TokenStream, item: TokenStream) -> TokenStream {
    let options = parse_macro_input!(options as Options);
    let function = parse_macro_input!(item as ItemFn);
    if let Err(error) = options.deny_useless_stack().and_then(|()| check(&function, "the handler", 1)) {
        return error.into_compile_error().into();
    }
    let stack = options.stack_bytes();
    let name = &function.sig.ident;
    let exports = if options.shared.is_some() {
        quote! { ::conet::__shared_handler!(#name, #stack); }
    } else {
        quote! { ::conet::__handler!(#name); }
    };
    quote! {
        #function

        fn main() -> ::std::process::ExitCode {
            ::conet::__rt::handler_main(#name)
        }

        #[cfg(target_family = "wasm")]
        #exports
    }
    .into()
}

fn renamed(mut function: ItemFn) -> (Ident, ItemFn) {
    let name = Ident::new("__conet_main", Span::call_site());
    function.sig.ident = name.clone();
    (name, function)
}

/// Refuses what would only fail inside the generated code, with a message about the user's.
fn check(function: &ItemFn, what: &str, parameters: usize) -> Result<(), Error> {
    let signature = &function.sig;
    if let Some(keyword) = &signature.asyncness {
        return Err(Error::new_spanned(keyword, format!("{what} is plain blocking code: remove `async`")));
    }
    if !signature.generics.params.is_empty() {
        return Err(Error::new_spanned(&signature.generics, format!("{what} cannot be generic")));
    }
    if signature.inputs.len() != parameters {
        let takes = if parameters == 0 { "takes no arguments" } else { "takes one argument, a TcpStream" };
        return Err(Error::new_spanned(signature, format!("{what} {takes}")));
    }
    // A program's function gets another name; a handler keeps its own, beside the `fn main` that is written for it.
    if parameters == 1 && signature.ident.unraw() == "main" {
        return Err(Error::new_spanned(&signature.ident, format!("{what} needs another name than `main`")));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(function: &str, parameters: usize) -> Result<(), Error> {
        check(&syn::parse_str(function).unwrap(), "main", parameters)
    }

    #[test]
    fn plain_functions_pass() {
        assert!(checked("fn main() -> Result<(), String> { Ok(()) }", 0).is_ok());
        assert!(checked("fn on_connection(conn: TcpStream) {}", 1).is_ok());
    }

    #[test]
    fn others_get_a_message_about_themselves() {
        for (function, parameters, message) in [
            ("async fn main() {}", 0, "main is plain blocking code: remove `async`"),
            ("fn main<T>() {}", 0, "main cannot be generic"),
            ("fn main(args: Vec<String>) {}", 0, "main takes no arguments"),
            ("fn main() {}", 1, "main takes one argument, a TcpStream"),
            ("fn main(conn: TcpStream) {}", 1, "main needs another name than `main`"),
            ("fn r#main(conn: TcpStream) {}", 1, "main needs another name than `main`"),
        ] {
            assert_eq!(checked(function, parameters).unwrap_err().to_string(), message);
        }
    }
}
