//! The host's functions as a compiler without types would call them: the SDK makes these misuses impossible.
//!
//! Natively there is no host to misuse, so the functions only exist to be compiled.

/// `[method]connection.recv` with a handle of the caller's choice: the error's number or the bytes received.
pub fn recv(handle: u32, max: u32) -> Result<Vec<u8>, u8> {
    let mut result = [0_u32; 3];
    // SAFETY: the result area is as large as `result<list<u8>, error-code>` and as aligned.
    unsafe { abi::recv(handle, max, 0, 0, result.as_mut_ptr()) };
    if result[0] & 0xff != 0 {
        return Err(result[1] as u8);
    }
    let (start, length) = (result[1] as *mut u8, result[2] as usize);
    // SAFETY: the host made the list with this module's allocator, exactly as long as it is, and gave it away.
    Ok(unsafe { Vec::from_raw_parts(start, length, length) })
}

/// `[method]connection.send` of any part of the address space: the error's number or how many bytes were taken.
pub fn send(handle: u32, start: u32, length: u32) -> Result<u32, u8> {
    let mut result = [0_u32; 2];
    // SAFETY: the result area is as large as `result<u32, error-code>`; the host checks the list's bounds.
    unsafe { abi::send(handle, start, length, 0, 0, result.as_mut_ptr()) };
    if result[0] & 0xff != 0 { Err(result[1] as u8) } else { Ok(result[1]) }
}

/// `[method]listener.local-address` with a handle of the caller's choice; the answer does not matter.
pub fn listener_address(handle: u32) {
    let mut result = [0_u32; 16];
    // SAFETY: the result area is larger than `result<ip-socket-address, error-code>`.
    unsafe { abi::listener_address(handle, result.as_mut_ptr()) };
    std::hint::black_box(result);
}

/// `inbox.add` of one request with a key of the caller's choice.
pub fn receive_by_key(key: u64) {
    let request = [key, u64::MAX, 1];
    // SAFETY: the list outlives the call.
    unsafe { abi::add(request.as_ptr(), request.len()) };
}

#[cfg(target_family = "wasm")]
mod abi {
    #[link(wasm_import_module = "conet:net/tcp@0.1.0")]
    unsafe extern "C" {
        #[link_name = "[method]connection.recv"]
        pub(super) fn recv(handle: u32, max: u32, has_timeout: u32, timeout: u64, result: *mut u32);
        #[link_name = "[method]connection.send"]
        pub(super) fn send(
            handle: u32,
            start: u32,
            length: u32,
            has_timeout: u32,
            timeout: u64,
            result: *mut u32,
        );
        #[link_name = "[method]listener.local-address"]
        pub(super) fn listener_address(handle: u32, result: *mut u32);
    }

    #[link(wasm_import_module = "conet:fibers/inbox@0.1.0")]
    unsafe extern "C" {
        pub(super) fn add(words: *const u64, count: usize);
    }
}

#[cfg(not(target_family = "wasm"))]
mod abi {
    pub(super) unsafe fn recv(_: u32, _: u32, _: u32, _: u64, _: *mut u32) {
        panic!("there is no host outside of the sandbox")
    }
    pub(super) unsafe fn send(_: u32, _: u32, _: u32, _: u32, _: u64, _: *mut u32) {
        panic!("there is no host outside of the sandbox")
    }
    pub(super) unsafe fn listener_address(_: u32, _: *mut u32) {
        panic!("there is no host outside of the sandbox")
    }
    pub(super) unsafe fn add(_: *const u64, _: usize) {
        panic!("there is no host outside of the sandbox")
    }
}
