//! The bytes of one stream that the executor does not have yet: a ring that is read into and written
//! from in place, addressed by offsets in the stream. It grows with what it has to hold; beyond what
//! every stream has for sure, all windows of a sandbox share one allowance. The widest can be memory
//! that the executor sees too.

use std::cell::Cell;
use std::io::IoSliceMut;
use std::os::fd::BorrowedFd;
use std::rc::Rc;

use protocol::init::{WIDE_WINDOW_BYTES, WINDOW_BYTES};

use crate::shared::Shared;

/// What a window begins with, in bytes: enough for nearly every command.
const FIRST_BYTES: usize = 16 * 1024;
/// What all wide windows may hold together on top of [`WINDOW_BYTES`] each. It counts against the
/// sandbox's own memory.
const ALLOWANCE_BYTES: usize = 6 * 1024 * 1024;
const PAGE_BYTES: usize = 4096;
/// Where the ring begins within a page. Bytes of a full pipe begin at a page; AMD's processors copy
/// four times slower to a place that lies up to 63 bytes further into its page than the source, and
/// that is where the allocator puts what is large. Half a page is as far from there as can be.
const LEAD_BYTES: usize = PAGE_BYTES / 2;

/// What windows may still take on top of what each has for sure. PID 1 has one thread.
#[derive(Clone)]
pub(crate) struct Allowance(Rc<Cell<usize>>);

impl Allowance {
    /// That of a sandbox without any window.
    pub(crate) fn new() -> Self {
        Self(Rc::new(Cell::new(ALLOWANCE_BYTES)))
    }
}

/// Memory of a size that is a power of two, or none.
#[derive(Default)]
struct Ring {
    memory: Memory,
    size: usize,
}

/// Where a ring is.
enum Memory {
    /// From the second on.
    Own(Vec<u8>, usize),
    Shared(Shared),
}

impl Default for Memory {
    fn default() -> Self {
        Self::Own(Vec::new(), 0)
    }
}

impl Ring {
    fn new(size: usize) -> Self {
        let memory = vec![0; size + PAGE_BYTES + LEAD_BYTES];
        // At most a page, unless it cannot be told; then anywhere is as good.
        let page = memory.as_ptr().align_offset(PAGE_BYTES).min(PAGE_BYTES);
        Self { memory: Memory::Own(memory, page + LEAD_BYTES), size }
    }

    /// One that the executor sees too, if the kernel has such memory.
    fn shared(size: usize) -> Self {
        let shared = |memory| Self { memory: Memory::Shared(memory), size };
        Shared::new(size).map_or_else(|_| Self::new(size), shared)
    }

    fn all(&self) -> &[u8] {
        match &self.memory {
            Memory::Own(memory, start) => &memory[*start..*start + self.size],
            Memory::Shared(memory) => memory.all(),
        }
    }

    fn all_mut(&mut self) -> &mut [u8] {
        match &mut self.memory {
            Memory::Own(memory, start) => &mut memory[*start..*start + self.size],
            Memory::Shared(memory) => memory.all_mut(),
        }
    }

    /// Copies bytes to the place of an offset and behind it, over its end if need be.
    fn put(&mut self, offset: u64, bytes: &[u8]) {
        let position = self.position(offset);
        let (before, behind) = self.all_mut().split_at_mut(position);
        let (first, second) = bytes.split_at(bytes.len().min(behind.len()));
        behind[..first.len()].copy_from_slice(first);
        before[..second.len()].copy_from_slice(second);
    }

    /// The place of an offset.
    fn position(&self, offset: u64) -> usize {
        (offset % self.size.max(1) as u64) as usize
    }
}

/// See the module.
pub(crate) struct Window {
    ring: Ring,
    /// Offset of the first byte: what the executor has acknowledged.
    base: u64,
    length: usize,
    allowance: Allowance,
    may_share: bool,
}

impl Window {
    /// An empty one, without memory of its own.
    pub(crate) fn new(allowance: Allowance) -> Self {
        Self { ring: Ring::default(), base: 0, length: 0, allowance, may_share: false }
    }

    /// Whether the executor may see its memory when it is at its widest, from now on.
    pub(crate) fn let_share(&mut self, may: bool) {
        self.may_share = may;
    }

    /// The memory that the executor may see, and its number, if there is any.
    pub(crate) fn shared(&self) -> Option<(BorrowedFd<'_>, u64)> {
        match &self.ring.memory {
            Memory::Shared(memory) if self.may_share => Some(memory.descriptor()),
            _ => None,
        }
    }

    /// Offset of the first byte that it holds.
    pub(crate) fn base(&self) -> u64 {
        self.base
    }

    /// Offset behind the last byte that it holds.
    pub(crate) fn end(&self) -> u64 {
        self.base + self.length as u64
    }

    /// Whether it can take more.
    pub(crate) fn has_room(&self) -> bool {
        self.length < self.ring.size || self.next_size().is_some()
    }

    /// Room for at most `limit` bytes behind its last one, in order; and how much it is.
    pub(crate) fn room(&mut self, limit: usize) -> ([IoSliceMut<'_>; 2], usize) {
        if self.length == self.ring.size
            && let Some(size) = self.next_size()
        {
            self.grow(size);
        }
        let count = (self.ring.size - self.length).min(limit);
        let end = self.ring.position(self.end());
        let (before, behind) = self.ring.all_mut().split_at_mut(end);
        let first = count.min(behind.len());
        let parts = [&mut behind[..first], &mut before[..count - first]];
        (parts.map(IoSliceMut::new), count)
    }

    /// `count` bytes were put into its room.
    pub(crate) fn extend(&mut self, count: usize) {
        self.length = self.ring.size.min(self.length + count);
    }

    /// At most `limit` bytes from `offset` on, in order.
    pub(crate) fn bytes(&self, offset: u64, limit: usize) -> [&[u8]; 2] {
        let skip = usize::try_from(offset.saturating_sub(self.base)).unwrap_or(usize::MAX);
        let count = self.length.saturating_sub(skip).min(limit);
        let (before, behind) = self.ring.all().split_at(self.ring.position(offset));
        let first = count.min(behind.len());
        [&behind[..first], &before[..count - first]]
    }

    /// Gives up the bytes before `offset`, as far as it has them.
    pub(crate) fn release(&mut self, offset: u64) {
        let offset = offset.clamp(self.base, self.end());
        self.length -= usize::try_from(offset - self.base).unwrap_or(self.length);
        self.base = offset;
    }

    /// The next size that it may have.
    fn next_size(&self) -> Option<usize> {
        let size = self.ring.size;
        let wanted = (2 * size).clamp(FIRST_BYTES, WIDE_WINDOW_BYTES);
        let extra = extra(wanted) - extra(size);
        (wanted > size && extra <= self.allowance.0.get()).then_some(wanted)
    }

    fn grow(&mut self, size: usize) {
        let left = self.allowance.0.get();
        self.allowance.0.set(left - (extra(size) - extra(self.ring.size)).min(left));
        let shared = self.may_share && size == WIDE_WINDOW_BYTES;
        let mut ring = if shared { Ring::shared(size) } else { Ring::new(size) };
        let [first, second] = self.bytes(self.base, self.length);
        ring.put(self.base, first);
        ring.put(self.base + first.len() as u64, second);
        self.ring = ring;
    }
}

impl Drop for Window {
    fn drop(&mut self) {
        self.allowance.0.set(self.allowance.0.get() + extra(self.ring.size));
    }
}

/// What a window of this size takes of the allowance.
fn extra(size: usize) -> usize {
    size.saturating_sub(WINDOW_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt as _;

    /// Puts bytes in, as a read would; gives how many it took.
    fn put(window: &mut Window, bytes: &[u8]) -> usize {
        let (mut room, count) = window.room(bytes.len());
        let (first, second) = bytes[..count].split_at(room[0].len());
        room[0].copy_from_slice(first);
        room[1].copy_from_slice(second);
        window.extend(count);
        count
    }

    fn fill(window: &mut Window) {
        while window.has_room() {
            put(window, &[7; 10_000]);
        }
    }

    #[test]
    fn bytes_stay_in_order_while_it_wraps_and_grows() {
        for may_share in [false, true] {
            wrap_and_grow(may_share);
        }
    }

    fn wrap_and_grow(may_share: bool) {
        let mut window = Window::new(Allowance::new());
        window.let_share(may_share);
        let all: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
        let (mut put_in, mut seen) = (0, 0);
        let (mut round, mut shared) = (0, 0);
        while seen < all.len() {
            round += 1;
            let piece = &all[put_in..all.len().min(put_in + 1 + round * 977 % 30_011)];
            put_in += put(&mut window, piece);
            if round % 5 == 0 || put_in == all.len() {
                let [first, second] = window.bytes(seen as u64, 40_000);
                let bytes = [first, second].concat();
                assert!(all[seen..].starts_with(&bytes) && !bytes.is_empty());
                if let Some((descriptor, _)) = window.shared() {
                    let mut other = vec![0; first.len()];
                    let at = (seen % WIDE_WINDOW_BYTES) as u64;
                    let file = std::fs::File::from(descriptor.try_clone_to_owned().expect("ours"));
                    file.read_exact_at(&mut other, at).expect("reads");
                    assert!(other == first);
                    shared += 1;
                }
                seen += bytes.len();
                window.release(seen as u64 - 1);
            }
        }
        assert_eq!(window.end(), all.len() as u64);
        assert_eq!(window.base(), all.len() as u64 - 1);
        assert_eq!(shared > 0, may_share);
    }

    #[test]
    fn what_is_not_there_is_neither_given_nor_released() {
        let mut window = Window::new(Allowance::new());
        assert_eq!(window.bytes(0, 10), [&[] as &[u8], &[]]);
        put(&mut window, b"abcdef");
        window.release(4);
        window.release(2);
        assert_eq!((window.base(), window.bytes(4, 10)[0]), (4, b"ef".as_slice()));
        assert_eq!(window.bytes(6, 10)[0], b"");
        assert_eq!(window.bytes(u64::MAX, 10)[0], b"");
        window.release(u64::MAX);
        assert_eq!((window.base(), window.end()), (6, 6));
    }

    #[test]
    fn few_windows_are_wide_and_each_has_its_own_for_sure() {
        let allowance = Allowance::new();
        let mut windows: Vec<_> = (0..20).map(|_| Window::new(allowance.clone())).collect();
        windows.iter_mut().for_each(fill);
        let wide = windows.iter().filter(|window| window.end() == WIDE_WINDOW_BYTES as u64);
        assert_eq!(wide.count(), ALLOWANCE_BYTES / (WIDE_WINDOW_BYTES - WINDOW_BYTES));
        assert!(windows.iter().all(|window| window.end() >= WINDOW_BYTES as u64));
        let held: u64 = windows.iter().map(Window::end).sum();
        assert!(held <= (20 * WINDOW_BYTES + ALLOWANCE_BYTES) as u64);
        windows.clear();
        assert_eq!(allowance.0.get(), ALLOWANCE_BYTES);
    }
}
