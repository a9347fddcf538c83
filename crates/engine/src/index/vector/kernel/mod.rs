//! The inner loops of the search structure: products of float vectors, and of blocks of 16 coded rows with one query.
//!
//! Every kernel exists once in plain Rust ([`scalar`], the definition) and again for the instruction sets that matter
//! ([`x86`]); [`Kernel::best`] asks the processor once in a process. Integer results are equal to the bit at every
//! level, float results up to the order of the additions. Valgrind and old machines report no AVX-512, so the same
//! binary runs there; [`Kernel::at`] lets tests choose.

mod scalar;
#[cfg(target_arch = "x86_64")]
mod x86;

#[cfg(test)]
mod tests;

use std::sync::OnceLock;

/// Rows of a block: the 32-bit lanes of a 512-bit register.
pub const LANES: usize = 16;
/// Dimensions that one load of nibbles covers; codes are padded to a multiple of it.
pub(crate) const GROUP: usize = 8;
/// Bytes of a cache line.
const LINE: usize = 64;
/// Rows whose 16-bit codes are tested at once.
pub(crate) const STRETCH: usize = 4 * LANES;
/// Blocks whose keys a search computes at once.
pub(crate) const SCAN_BLOCKS: usize = 32;

/// Instruction sets that the kernels know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    /// Plain Rust.
    Scalar,
    /// AVX2 and FMA.
    Avx2,
    /// AVX-512 F, BW, DQ and VNNI.
    Avx512,
}

/// Width of a stored code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// Two codes of 0..=15 in a byte: rows.
    Nibble,
    /// One code of 0..=127 in a byte, so that a sum of two products fits 16 bits with sign: centroids.
    Byte,
}

impl Width {
    /// Bytes of the codes of a block whose rows have `padded` dimensions, a multiple of [`GROUP`].
    pub(crate) const fn code_bytes(self, padded: usize) -> usize {
        match self {
            Width::Nibble => LANES * padded / 2,
            Width::Byte => LANES * padded,
        }
    }

    /// Bytes of a whole block: 16 scales and 16 terms (f32, little-endian), then the codes. A multiple of 64.
    pub(crate) const fn block_bytes(self, padded: usize) -> usize {
        LANES * 8 + self.code_bytes(padded)
    }
}

/// One query as the block kernels take it: key of a row = `base + term + factor * scale * (codes . query - offset)`.
/// Smaller keys are nearer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Probe<'a> {
    /// Signed bytes, as many as the rows have padded dimensions.
    pub(crate) query: &'a [i8],
    /// Mid code times the sum of the query.
    pub(crate) offset: f32,
    /// What a unit of the sum is worth.
    pub(crate) factor: f32,
    /// Added to every row.
    pub(crate) base: f32,
}

type Floats = unsafe fn(&[f32], &[f32]) -> f32;
type Scan = unsafe fn(Width, &[u8], &Probe<'_>, &mut [[f32; LANES]]);
type Allowed = unsafe fn(&[u32; LANES], &[u32]) -> u16;
type Shorts = unsafe fn(&[u32; LANES], &[[u8; 4]]) -> [u32; LANES];
type Within = unsafe fn(&[u16; STRETCH], u16, u16) -> u64;
type Among = unsafe fn(&[u16; STRETCH], &[u32]) -> u64;
type Ones = unsafe fn(&[u32]) -> u32;
type Below = unsafe fn(&[f32; LANES], f32) -> u16;

/// The functions of one level.
pub(crate) struct Kernel {
    dot: Floats,
    l2: Floats,
    scan: Scan,
    allowed: Allowed,
    shorts: Shorts,
    within: Within,
    among: Among,
    below: Below,
    ones: Ones,
}

static SCALAR: Kernel = Kernel {
    dot: scalar::dot,
    l2: scalar::l2,
    scan: scalar::scan,
    allowed: scalar::allowed,
    shorts: scalar::shorts,
    within: scalar::within,
    among: scalar::among,
    below: scalar::below,
    ones: scalar::ones,
};
#[cfg(target_arch = "x86_64")]
static AVX2: Kernel = Kernel {
    dot: x86::dot_avx2,
    l2: x86::l2_avx2,
    scan: x86::scan_avx2,
    allowed: scalar::allowed,
    shorts: scalar::shorts,
    within: scalar::within,
    among: scalar::among,
    below: x86::below_avx2,
    ones: x86::ones_popcnt,
};
#[cfg(target_arch = "x86_64")]
static AVX512: Kernel = Kernel {
    dot: x86::dot_avx512,
    l2: x86::l2_avx512,
    scan: x86::scan_avx512,
    allowed: x86::allowed_avx512,
    shorts: x86::shorts_avx512,
    within: x86::within_avx512,
    among: x86::among_avx512,
    below: x86::below_avx512,
    ones: x86::ones_popcnt,
};

impl Kernel {
    /// The best level that this processor has.
    pub(crate) fn best() -> &'static Kernel {
        static BEST: OnceLock<&'static Kernel> = OnceLock::new();
        BEST.get_or_init(|| {
            let levels = [Level::Avx512, Level::Avx2, Level::Scalar];
            levels.into_iter().find_map(Kernel::at).unwrap_or(&SCALAR)
        })
    }

    /// The functions of a level, if this processor has it.
    pub(crate) fn at(level: Level) -> Option<&'static Kernel> {
        match level {
            Level::Scalar => Some(&SCALAR),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => x86::has_avx2().then_some(&AVX2),
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => x86::has_avx512().then_some(&AVX512),
            #[cfg(not(target_arch = "x86_64"))]
            Level::Avx2 | Level::Avx512 => None,
        }
    }

    /// Inner product of two vectors of one length.
    pub(crate) fn dot(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: a kernel is handed out only where the processor has its level; the lengths are equal.
        unsafe { (self.dot)(a, b) }
    }

    /// Squared euclidean distance of two vectors of one length.
    pub(crate) fn l2(&self, a: &[f32], b: &[f32]) -> f32 {
        assert_eq!(a.len(), b.len());
        // SAFETY: a kernel is handed out only where the processor has its level; the lengths are equal.
        unsafe { (self.l2)(a, b) }
    }

    /// Keys of the rows of consecutive blocks, one array per block.
    pub(crate) fn scan(&self, width: Width, blocks: &[u8], probe: &Probe<'_>, keys: &mut [[f32; LANES]]) {
        assert_eq!(probe.query.len() % GROUP, 0);
        assert_eq!(blocks.len(), keys.len() * width.block_bytes(probe.query.len()));
        // SAFETY: a kernel is handed out only where the processor has its level; `blocks` holds exactly `keys.len()`
        // blocks of the query's dimensions, which are a multiple of a group.
        unsafe { (self.scan)(width, blocks, probe, keys) }
    }

    /// Which of 16 row numbers have their bit set in `words`. Row numbers beyond the words are not set.
    pub(crate) fn allowed(&self, rows: &[u32; LANES], words: &[u32]) -> u16 {
        // Gathers take signed offsets; no segment has this many rows.
        assert!(words.len() < 1 << 26);
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.allowed)(rows, words) }
    }

    /// The 16-bit numbers of 16 rows, from a table of one per row whose bytes are given four at a time, little-endian. 0 of
    /// rows beyond the table.
    pub(crate) fn shorts(&self, rows: &[u32; LANES], table: &[[u8; 4]]) -> [u32; LANES] {
        // Gathers take signed offsets; no segment has this many rows.
        assert!(table.len() < 1 << 29);
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.shorts)(rows, table) }
    }

    /// Which of 64 codes are at least `first` and at most `span` more.
    pub(crate) fn within(&self, codes: &[u16; STRETCH], first: u16, span: u16) -> u64 {
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.within)(codes, first, span) }
    }

    /// Which of 64 codes have their bit set in `words`. Codes beyond the words are not set.
    pub(crate) fn among(&self, codes: &[u16; STRETCH], words: &[u32]) -> u64 {
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.among)(codes, words) }
    }

    /// Which of 16 keys are below `limit`. A NaN never is.
    pub(crate) fn below(&self, keys: &[f32; LANES], limit: f32) -> u16 {
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.below)(keys, limit) }
    }

    /// Number of bits that are set.
    pub(crate) fn ones(&self, words: &[u32]) -> u32 {
        // SAFETY: a kernel is handed out only where the processor has its level.
        unsafe { (self.ones)(words) }
    }
}

/// The least of some numbers, NaN apart; infinity of none. In lanes, because one chain of comparisons would wait for
/// each of them.
pub(crate) fn least(numbers: &[f32]) -> f32 {
    let mut lanes = [f32::INFINITY; LANES];
    let (whole, rest) = numbers.as_chunks::<LANES>();
    for chunk in whole {
        lanes.iter_mut().zip(chunk).for_each(|(lane, x)| *lane = if *x < *lane { *x } else { *lane });
    }
    lanes.iter().chain(rest).fold(f32::INFINITY, |least, x| if *x < least { *x } else { least })
}

/// Asks for the cache lines of what is needed soon. A hint; it reads nothing.
pub(crate) fn prefetch<T>(items: &[T]) {
    #[cfg(target_arch = "x86_64")]
    (0..size_of_val(items)).step_by(LINE).for_each(|at| x86::prefetch(items.as_ptr().cast::<u8>().wrapping_add(at)));
    #[cfg(not(target_arch = "x86_64"))]
    let _ = items;
}
