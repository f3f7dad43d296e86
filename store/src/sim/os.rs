//! The clock and the randomness of a thread that simulates: what libc answers there is decided here.
//!
//! So nothing that runs on the thread can know the real time or a real random number, whichever crate it comes from: hash
//! maps, jitter, deadlines. Other threads get what the kernel says. Invariant: an answer depends on the seed and on the
//! simulated time alone.

use std::cell::Cell;
use std::time::Duration;

thread_local! {
    static NOW: Cell<Option<Duration>> = const { Cell::new(None) };
    static WALL: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static RANDOM: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Makes this thread one that simulates. There is no way back: a thread has one life.
pub(super) fn enter(seed: u64) {
    RANDOM.set(Some(seed));
    NOW.set(Some(Duration::ZERO));
}

/// Sets what this thread's clocks show: time since some start, and since 1970.
pub(super) fn set_time(now: Duration, wall: Duration) {
    NOW.set(Some(now));
    WALL.set(wall);
}

/// One step of SplitMix64.
fn next(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[expect(
    unsafe_code,
    reason = "libc's symbol is replaced, so that the standard library and all crates ask here"
)]
// SAFETY: the signature is libc's. The caller passes room for `len` bytes, which are written and no others.
#[unsafe(no_mangle)]
unsafe extern "C" fn getrandom(
    buffer: *mut libc::c_void,
    len: libc::size_t,
    flags: libc::c_uint,
) -> libc::ssize_t {
    let Ok(Some(mut state)) = RANDOM.try_with(Cell::get) else {
        // SAFETY: the same call, with the caller's own arguments.
        let answer = unsafe { libc::syscall(libc::SYS_getrandom, buffer, len, flags) };
        return libc::ssize_t::try_from(answer).unwrap_or(-1);
    };
    // SAFETY: see above.
    let bytes = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<u8>(), len) };
    for chunk in bytes.chunks_mut(8) {
        chunk.copy_from_slice(&next(&mut state).to_le_bytes()[..chunk.len()]);
    }
    RANDOM.set(Some(state));
    libc::ssize_t::try_from(len).unwrap_or(libc::ssize_t::MAX)
}

#[expect(
    unsafe_code,
    reason = "libc's symbol is replaced, so that the standard library and all crates ask here"
)]
// SAFETY: the signature is libc's. The caller passes room for one `timespec`.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    let Ok(Some(now)) = NOW.try_with(Cell::get) else {
        // SAFETY: the same call, with the caller's own arguments.
        let answer = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
        return libc::c_int::try_from(answer).unwrap_or(-1);
    };
    let shown = match clock {
        libc::CLOCK_REALTIME | libc::CLOCK_REALTIME_COARSE => WALL.get(),
        _ => now,
    };
    // SAFETY: see above.
    let time = unsafe { &mut *time };
    time.tv_sec = libc::time_t::try_from(shown.as_secs()).unwrap_or(libc::time_t::MAX);
    time.tv_nsec = libc::c_long::from(shown.subsec_nanos());
    0
}
