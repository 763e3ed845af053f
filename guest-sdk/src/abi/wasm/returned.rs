//! What a call leaves behind its result pointer: `result<T, error-code>` in the canonical ABI's layout, which is C's.

use std::mem::MaybeUninit;
use std::ptr;

use crate::ErrorCode;

/// The memory a call writes its result to.
#[repr(C)]
pub(super) struct Returned<T: Copy> {
    tag: u8,
    payload: Payload<T>,
}

#[repr(C)]
union Payload<T: Copy> {
    ok: T,
    error: u8,
}

impl<T: Copy> Returned<T> {
    /// Gives `call` a place for its result, and reads the result.
    ///
    /// # Safety
    /// `call` must write a `result<T, error-code>` to its argument; every bit pattern must be a `T`.
    pub(super) unsafe fn by(call: impl FnOnce(*mut u8)) -> Result<T, ErrorCode> {
        let mut place = MaybeUninit::<Returned<T>>::zeroed();
        call(place.as_mut_ptr().cast());
        // SAFETY: zero is a value of every field, and `call` has written over it as the caller promised.
        unsafe {
            let returned = place.assume_init();
            if returned.tag == 0 {
                Ok(returned.payload.ok)
            } else {
                Err(ErrorCode::at(returned.payload.error))
            }
        }
    }
}

/// `list<T>`, allocated by `cabi_realloc` for the guest to free.
#[repr(C)]
pub(super) struct List<T> {
    pub(super) data: *mut T,
    pub(super) length: usize,
}

impl<T> Clone for List<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for List<T> {}

impl<T> List<T> {
    /// The elements.
    ///
    /// # Safety
    /// The host must have returned it, and nobody must take it again.
    pub(super) unsafe fn take(self) -> Box<[T]> {
        // SAFETY: the list is an allocation of exactly this length that the host has filled. An empty one's address is
        // aligned, and nothing is freed.
        unsafe { Box::from_raw(ptr::slice_from_raw_parts_mut(self.data, self.length)) }
    }
}

impl List<u8> {
    /// Moves the bytes to the front of `buf`, unless they are there already; tells how many they are.
    ///
    /// # Safety
    /// As for `take`.
    pub(super) unsafe fn move_to(self, buf: &mut [u8]) -> usize {
        if self.length == 0 || ptr::eq(self.data, buf.as_ptr()) {
            return self.length;
        }
        // SAFETY: as the caller promised.
        let bytes = unsafe { self.take() };
        buf[..bytes.len()].copy_from_slice(&bytes);
        bytes.len()
    }
}

/// `tuple<connection, ip-socket-address>`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Accepted {
    pub(super) connection: u32,
    pub(super) peer: Address,
}

/// `ip-socket-address`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Address {
    pub(super) family: u8,
    pub(super) socket: Socket,
}

/// Either family; `Address::family` tells which.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) union Socket {
    pub(super) ipv4: Ipv4,
    pub(super) ipv6: Ipv6,
}

/// `ipv4-socket-address`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Ipv4 {
    pub(super) port: u16,
    pub(super) address: [u8; 4],
}

/// `ipv6-socket-address`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(super) struct Ipv6 {
    pub(super) port: u16,
    pub(super) flow_info: u32,
    pub(super) address: [u16; 8],
    pub(super) scope_id: u32,
}

const _: () = {
    assert!(size_of::<Returned<Accepted>>() == 40);
    assert!(size_of::<Returned<List<u8>>>() == 12);
    assert!(size_of::<Returned<u64>>() == 16);
};
