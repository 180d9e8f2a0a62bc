// SPDX-License-Identifier: GPL-2.0

//! The descriptor of an AFU, checked: 256 bytes in which a PCI function says where its parts lie.
//!
//! Pure arithmetic. The device can put any values there and change them, so they are read once. The
//! parts that [`Descriptor::parse`] returns lie in the function's BARs, no two of them overlap, and
//! no number that is computed from them overflows. Offsets and sizes are in bytes; an offset is in
//! BAR 2 unless it is said to be in another.

use core::ops::Range;
use kernel::{
    fmt,
    prelude::*,
    str::BStr, //
};
use zerocopy::little_endian::{
    U16,
    U32,
    U64, //
};

/// The size of a descriptor.
pub(crate) const BYTES: usize = 256;

/// The BARs of a PCI function.
pub(crate) const BARS: usize = 6;

/// The BAR that begins with the descriptor, and has all parts that are not said to be in another.
pub(crate) const BAR: usize = 2;

/// Alignment and unit of size of what is mapped into programs.
pub(crate) const UNIT: u64 = 64 * 1024;

/// The size of an entry of the message store, laid out like one of an MSI-X table.
pub(crate) const STORE_ENTRY: u64 = 16;

/// The size of the control block of a context.
pub(crate) const CONTROL_BLOCK: u64 = 64;

/// The size of the cookie of a message slot.
pub(crate) const COOKIE: u64 = 8;

/// The size of the doorbell.
pub(crate) const DOORBELL: u64 = 4;

const MAGIC: &[u8; 8] = b"UXIVEAFU";
const VERSION: u16 = 1;
const MAX_CONTEXTS: u32 = 512;
const MAX_SLOTS: u32 = 2047;
const MAX_MMIO: u64 = 1 << 30;

/// Nothing in what programs map makes the function read or write memory of the host.
const NO_DMA: u32 = 1 << 0;

/// The descriptor as it lies in the BAR.
#[repr(C)]
#[derive(FromBytes)]
struct Raw {
    magic: [u8; 8],
    version: U16,
    major: u8,
    minor: u8,
    flags: U32,
    name: [u8; NAME],
    contexts: U32,
    slots: U32,
    mmio_offset: U64,
    mmio_size: U64,
    mmio_stride: U64,
    global_offset: U64,
    global_size: U64,
    control_offset: U64,
    cookie_offset: U64,
    store_bar: U32,
    reserved: U32,
    store_offset: U64,
    doorbell_bar: U32,
    doorbell_offset: U32,
    doorbell_value: U32,
    reserved_to_end: [u8; 124],
}

/// The properties of a function, as the PCI core knows them.
pub(crate) struct Function {
    /// The sizes of the BARs; 0 if there is none, or it is not memory.
    pub(crate) bars: [u64; BARS],
    pub(crate) msix: MsixTable,
}

/// Where the MSI-X table of a function lies, whose first entry is Linux's.
#[derive(Clone, Copy)]
pub(crate) struct MsixTable {
    pub(crate) bar: usize,
    pub(crate) offset: u32,
    /// At least 1.
    pub(crate) entries: u16,
}

impl MsixTable {
    /// Returns where the first `entries` lie.
    fn range(&self, entries: u16) -> Range<u64> {
        let start = u64::from(self.offset);

        start..start + u64::from(entries) * STORE_ENTRY
    }
}

/// A part of an AFU, whose place in a BAR is its own.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Part {
    /// The first [`UNIT`] of [`BAR`], with the descriptor and the registers of the AFU.
    Configuration,
    /// The MMIO of all contexts, which is mapped into programs, with the gaps between one's and the
    /// next's.
    Mmio,
    /// The MMIO that is mapped into programs of all contexts.
    Global,
    /// The control blocks of all contexts.
    Control,
    /// The cookies of all message slots.
    Cookies,
    /// The messages of all slots.
    Store,
    /// The register that is written to make the AFU look at the others.
    Doorbell,
    /// The MSI-X table. The store may have its entries but the first.
    MsixTable,
}

impl Part {
    /// Returns the number of which the offset must be a multiple.
    const fn alignment(self) -> u64 {
        match self {
            Self::Configuration | Self::Mmio | Self::Global => UNIT,
            Self::Control => CONTROL_BLOCK,
            Self::Cookies => COOKIE,
            Self::Store | Self::MsixTable => STORE_ENTRY,
            Self::Doorbell => DOORBELL,
        }
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Configuration => "configuration page",
            Self::Mmio => "contexts' MMIO",
            Self::Global => "global MMIO",
            Self::Control => "control blocks",
            Self::Cookies => "cookies",
            Self::Store => "message store",
            Self::Doorbell => "doorbell",
            Self::MsixTable => "MSI-X table",
        })
    }
}

/// Why a function is no AFU.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum DescriptorError {
    /// There is no descriptor.
    Magic,
    /// The descriptor has another layout, of this version.
    Version(u16),
    /// These flags are set and not known.
    Flags(u32),
    /// Programs could have the function read and write memory of the host.
    Dma,
    /// A field is not 0 of which a later version may say more.
    Reserved,
    /// No file name can be made of the name.
    Name,
    /// There cannot be as many contexts.
    Contexts(u32),
    /// A context cannot have as many message slots.
    Slots(u32),
    /// The size of a context's MMIO is 0, too large, or no multiple of [`UNIT`].
    MmioSize(u64),
    /// The size of the global MMIO is too large, or no multiple of [`UNIT`].
    GlobalSize(u64),
    /// The stride of the contexts' MMIO is less than its size, or no multiple of [`UNIT`].
    Stride(u64),
    /// A global MMIO of size 0 has this offset, not 0.
    GlobalOffset(u64),
    /// The offset of a part is not aligned.
    Alignment(Part, u64),
    /// A part is said to be in a BAR that a function cannot have.
    Bar(Part, u32),
    /// A part does not fit into its BAR.
    Room(Part, usize),
    /// Parts have bytes in common.
    Overlap(Part, Part),
}

impl fmt::Display for DescriptorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Magic => f.write_fmt(fmt!("BAR {BAR} does not begin with an AFU's descriptor")),
            Self::Version(version) => {
                f.write_fmt(fmt!("version {version} of descriptors is not known"))
            }
            Self::Flags(flags) => f.write_fmt(fmt!("flags {flags:#x} are not known")),
            Self::Dma => f.write_fmt(fmt!("its MMIO can start DMA, which nothing confines")),
            Self::Reserved => f.write_fmt(fmt!("a reserved field of its descriptor is not 0")),
            Self::Name => f.write_fmt(fmt!(
                "its name is not 1 to 23 of A-Z, a-z, 0-9, '_', ',' and '-'"
            )),
            Self::Contexts(count) => {
                f.write_fmt(fmt!("it has {count} contexts, not 1 to {MAX_CONTEXTS}"))
            }
            Self::Slots(count) => {
                f.write_fmt(fmt!("a context has {count} slots, not 0 to {MAX_SLOTS}"))
            }
            Self::MmioSize(size) => {
                f.write_fmt(fmt!("a context's MMIO cannot have a size of {size:#x}"))
            }
            Self::GlobalSize(size) => {
                f.write_fmt(fmt!("its global MMIO cannot have a size of {size:#x}"))
            }
            Self::Stride(stride) => f.write_fmt(fmt!(
                "its contexts' MMIO cannot have a stride of {stride:#x}"
            )),
            Self::GlobalOffset(offset) => {
                f.write_fmt(fmt!("it has no global MMIO, but at offset {offset:#x}"))
            }
            Self::Alignment(part, offset) => {
                let alignment = part.alignment();
                f.write_fmt(fmt!(
                    "offset {offset:#x} of its {part} is no multiple of {alignment}"
                ))
            }
            Self::Bar(part, bar) => f.write_fmt(fmt!("there is no BAR {bar} for its {part}")),
            Self::Room(part, bar) => f.write_fmt(fmt!("BAR {bar} has no room for its {part}")),
            Self::Overlap(one, other) => f.write_fmt(fmt!("its {one} and its {other} overlap")),
        }
    }
}

/// The size of the field of the name.
const NAME: usize = 24;

/// The name of an AFU, of which a file name can be made: 1 to 23 of `A-Z a-z 0-9 _ , -`.
#[derive(Clone, Copy)]
pub(crate) struct Name {
    bytes: [u8; NAME],
    len: usize,
}

impl Name {
    fn new(bytes: [u8; NAME]) -> Result<Self, DescriptorError> {
        let len = bytes
            .iter()
            .position(|&byte| byte == 0)
            .ok_or(DescriptorError::Name)?;
        let good = |&byte: &u8| byte.is_ascii_alphanumeric() || b"_,-".contains(&byte);

        let (name, rest) = bytes.split_at_checked(len).ok_or(DescriptorError::Name)?;
        if name.is_empty() || !name.iter().all(good) || rest.iter().any(|&byte| byte != 0) {
            return Err(DescriptorError::Name);
        }
        Ok(Self { bytes, len })
    }

    fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_fmt(fmt!("{}", BStr::from_bytes(self.as_bytes())))
    }
}

/// The doorbell of an AFU: 4 bytes, to be written with a value.
#[derive(Clone, Copy)]
pub(crate) struct Doorbell {
    pub(crate) bar: usize,
    pub(crate) offset: u32,
    pub(crate) value: u32,
}

/// The parts of an AFU, and where they lie.
///
/// # Invariants
///
/// All parts lie in their BARs and, aligned as [`Part::alignment`] says, apart from each other and
/// from the MSI-X table, of which the store may have entries but the first.
pub(crate) struct Descriptor {
    pub(crate) name: Name,
    pub(crate) major: u8,
    pub(crate) minor: u8,
    /// 1 to 512.
    pub(crate) contexts: u32,
    /// Message slots of each context: 0 to 2047.
    pub(crate) slots: u32,
    /// Of each context: [`UNIT`] to 1 GiB, a multiple of [`UNIT`].
    pub(crate) mmio_size: u64,
    mmio_stride: u64,
    mmio_offset: u64,
    /// A multiple of [`UNIT`], up to 1 GiB, or empty.
    pub(crate) global: Range<u64>,
    /// The control blocks of all contexts.
    pub(crate) control: Range<u64>,
    /// The cookies of all message slots, or empty.
    pub(crate) cookies: Range<u64>,
    pub(crate) store_bar: usize,
    /// The messages of all slots, in `store_bar`, or empty.
    pub(crate) store: Range<u64>,
    pub(crate) doorbell: Doorbell,
}

impl Descriptor {
    /// Takes `bytes` for the descriptor of `function`.
    ///
    /// # Errors
    ///
    /// The first [`DescriptorError`] that is found.
    pub(crate) fn parse(bytes: &[u8; BYTES], function: &Function) -> Result<Self, DescriptorError> {
        let raw: Raw = zerocopy::transmute!(*bytes);

        raw.check_header()?;
        raw.check_sizes()?;
        let this = raw.place(function)?;
        this.check_overlaps(&function.msix)?;
        Ok(this)
    }

    /// Returns where the MMIO of `context` lies, if there is such a context.
    pub(crate) fn mmio(&self, context: u32) -> Option<Range<u64>> {
        (context < self.contexts).then(|| {
            let start = self.mmio_offset + u64::from(context) * self.mmio_stride;
            start..start + self.mmio_size
        })
    }

    /// Returns the offset of the control block of `context`, if there is such a context.
    pub(crate) fn control_block(&self, context: u32) -> Option<u64> {
        (context < self.contexts).then(|| self.control.start + u64::from(context) * CONTROL_BLOCK)
    }

    /// Returns the offset of the cookie of `slot` of `context`, if there is such a slot.
    pub(crate) fn cookie(&self, context: u32, slot: u32) -> Option<u64> {
        Some(self.cookies.start + self.entry(context, slot)? * COOKIE)
    }

    /// Returns the offset in `store_bar` of the message of `slot` of `context`, if there is such a
    /// slot.
    pub(crate) fn store_entry(&self, context: u32, slot: u32) -> Option<u64> {
        Some(self.store.start + self.entry(context, slot)? * STORE_ENTRY)
    }

    /// Returns how many message slots all contexts have together.
    pub(crate) fn messages(&self) -> usize {
        (self.contexts as usize).saturating_mul(self.slots as usize)
    }

    /// Returns the number of `slot` of `context` among all slots.
    fn entry(&self, context: u32, slot: u32) -> Option<u64> {
        (context < self.contexts && slot < self.slots)
            .then(|| u64::from(context) * u64::from(self.slots) + u64::from(slot))
    }

    /// Returns where the MMIO of all contexts lies, with what is between one's and the next's.
    fn all_mmio(&self) -> Range<u64> {
        let between = u64::from(self.contexts - 1) * self.mmio_stride;

        self.mmio_offset..self.mmio_offset + between + self.mmio_size
    }

    fn check_overlaps(&self, msix: &MsixTable) -> Result<(), DescriptorError> {
        let doorbell = u64::from(self.doorbell.offset);
        let parts = [
            (Part::Configuration, BAR, 0..UNIT),
            (Part::Mmio, BAR, self.all_mmio()),
            (Part::Global, BAR, self.global.clone()),
            (Part::Control, BAR, self.control.clone()),
            (Part::Cookies, BAR, self.cookies.clone()),
            (Part::Store, self.store_bar, self.store.clone()),
            (
                Part::Doorbell,
                self.doorbell.bar,
                doorbell..doorbell + DOORBELL,
            ),
        ];

        for (number, (part, bar, range)) in parts.iter().enumerate() {
            for (other, other_bar, other_range) in parts.iter().take(number) {
                if bar == other_bar && overlap(range, other_range) {
                    return Err(DescriptorError::Overlap(*other, *part));
                }
            }
            let foreign = match part {
                Part::Store => 1,
                _ => msix.entries,
            };
            if *bar == msix.bar && overlap(range, &msix.range(foreign)) {
                return Err(DescriptorError::Overlap(*part, Part::MsixTable));
            }
        }
        Ok(())
    }
}

/// Returns whether a byte is in both.
fn overlap(one: &Range<u64>, other: &Range<u64>) -> bool {
    // Empty ranges, which have none, may lie anywhere.
    one.start.max(other.start) < one.end.min(other.end)
}

impl Raw {
    fn check_header(&self) -> Result<(), DescriptorError> {
        let (version, flags) = (self.version.get(), self.flags.get());

        if self.magic != *MAGIC {
            return Err(DescriptorError::Magic);
        }
        if version != VERSION {
            return Err(DescriptorError::Version(version));
        }
        if flags & !NO_DMA != 0 {
            return Err(DescriptorError::Flags(flags & !NO_DMA));
        }
        if flags & NO_DMA == 0 {
            return Err(DescriptorError::Dma);
        }
        if self.reserved.get() != 0 || self.reserved_to_end.iter().any(|&byte| byte != 0) {
            return Err(DescriptorError::Reserved);
        }
        Ok(())
    }

    fn check_sizes(&self) -> Result<(), DescriptorError> {
        let (contexts, slots) = (self.contexts.get(), self.slots.get());
        let (mmio, stride) = (self.mmio_size.get(), self.mmio_stride.get());
        let (global, global_offset) = (self.global_size.get(), self.global_offset.get());

        if !(1..=MAX_CONTEXTS).contains(&contexts) {
            return Err(DescriptorError::Contexts(contexts));
        }
        if slots > MAX_SLOTS {
            return Err(DescriptorError::Slots(slots));
        }
        if mmio == 0 || mmio > MAX_MMIO || mmio % UNIT != 0 {
            return Err(DescriptorError::MmioSize(mmio));
        }
        if stride < mmio || stride % UNIT != 0 {
            return Err(DescriptorError::Stride(stride));
        }
        if global > MAX_MMIO || global % UNIT != 0 {
            return Err(DescriptorError::GlobalSize(global));
        }
        if global == 0 && global_offset != 0 {
            return Err(DescriptorError::GlobalOffset(global_offset));
        }
        Ok(())
    }

    /// Finds the place of each part in its BAR. The sizes have been checked.
    fn place(&self, function: &Function) -> Result<Descriptor, DescriptorError> {
        let place = |part, bar, offset: &U64, size| function.place(part, bar, offset.get(), size);
        let entries = u64::from(self.contexts.get()) * u64::from(self.slots.get());
        let control_size = u64::from(self.contexts.get()) * CONTROL_BLOCK;
        let store_bar = bar(Part::Store, self.store_bar.get())?;
        let doorbell = Doorbell {
            bar: bar(Part::Doorbell, self.doorbell_bar.get())?,
            offset: self.doorbell_offset.get(),
            value: self.doorbell_value.get(),
        };
        let doorbell_offset = doorbell.offset.into();

        function.place(Part::Configuration, BAR, 0, UNIT)?;
        function.place(Part::Doorbell, doorbell.bar, doorbell_offset, DOORBELL)?;
        place(Part::Mmio, BAR, &self.mmio_offset, self.all_mmio_size()?)?;
        let global = place(
            Part::Global,
            BAR,
            &self.global_offset,
            self.global_size.get(),
        )?;
        let control = place(Part::Control, BAR, &self.control_offset, control_size)?;
        let cookies = place(Part::Cookies, BAR, &self.cookie_offset, entries * COOKIE)?;
        let store = place(
            Part::Store,
            store_bar,
            &self.store_offset,
            entries * STORE_ENTRY,
        )?;

        Ok(Descriptor {
            name: Name::new(self.name)?,
            major: self.major,
            minor: self.minor,
            contexts: self.contexts.get(),
            slots: self.slots.get(),
            mmio_size: self.mmio_size.get(),
            mmio_stride: self.mmio_stride.get(),
            mmio_offset: self.mmio_offset.get(),
            global,
            control,
            cookies,
            store_bar,
            store,
            doorbell,
        })
    }

    /// Returns the distance from the first byte of the contexts' MMIO to behind the last.
    fn all_mmio_size(&self) -> Result<u64, DescriptorError> {
        let last = u64::from(self.contexts.get()).saturating_sub(1);

        self.mmio_stride
            .get()
            .checked_mul(last)
            .and_then(|offset| offset.checked_add(self.mmio_size.get()))
            .ok_or(DescriptorError::Room(Part::Mmio, BAR))
    }
}

fn bar(part: Part, number: u32) -> Result<usize, DescriptorError> {
    let bar = number as usize;

    (bar < BARS)
        .then_some(bar)
        .ok_or(DescriptorError::Bar(part, number))
}

impl Function {
    /// Returns the `size` bytes at `offset` of `bar`, where `part` may be.
    fn place(
        &self,
        part: Part,
        bar: usize,
        offset: u64,
        size: u64,
    ) -> Result<Range<u64>, DescriptorError> {
        if offset % part.alignment() != 0 {
            return Err(DescriptorError::Alignment(part, offset));
        }
        let end = offset
            .checked_add(size)
            .filter(|end| self.bars.get(bar).is_some_and(|size| end <= size))
            .ok_or(DescriptorError::Room(part, bar))?;

        Ok(offset..end)
    }
}

#[kunit_tests(uxive_descriptor)]
mod tests {
    use super::*;
    use kernel::str::CString;

    /// A descriptor, and the function that has it.
    struct Sample {
        bytes: [u8; BYTES],
        function: Function,
    }

    impl Sample {
        /// Parts that lie in three BARs, the store within the MSI-X table.
        fn apart() -> Self {
            let mut sample = Self {
                bytes: [0; BYTES],
                function: Function {
                    bars: [0x100, 0x8000, 0x84_0000, 0, 0, 0],
                    msix: MsixTable {
                        bar: 1,
                        offset: 0,
                        entries: 2017,
                    },
                },
            };
            sample.set(0x00, b"UXIVEAFU");
            sample.set16(0x08, 1);
            sample.set(0x0a, &[3, 5]);
            sample.set32(0x0c, 1);
            sample.set(0x10, b"IBM,MEMCPY3");
            sample.set32(0x28, 32);
            sample.set32(0x2c, 63);
            sample.set64(0x30, 0x4_0000);
            sample.set64(0x38, 0x4_0000);
            sample.set64(0x40, 0x4_0000);
            sample.set64(0x48, 0x2_0000);
            sample.set64(0x50, 0x1_0000);
            sample.set64(0x58, 0x1_0000);
            sample.set64(0x60, 0x1_1000);
            sample.set32(0x68, 1);
            sample.set64(0x70, 0x10);
            sample.set32(0x78, 0);
            sample.set32(0x7c, 12);
            sample.set32(0x80, 0x1234_5678);
            sample
        }

        /// All in BAR 2, without a gap but between the contexts: the configuration page, the
        /// contexts' MMIO, the global MMIO, the control blocks, the cookies, the MSI-X table, of
        /// which the store has the end, and the doorbell.
        fn together() -> Self {
            let mut sample = Self::apart();
            sample.function.bars = [0, 0, 0x10_0000, 0, 0, 0];
            sample.function.msix = MsixTable {
                bar: 2,
                offset: 0x7_0120,
                entries: 13,
            };
            sample.set32(0x28, 3);
            sample.set32(0x2c, 4);
            sample.set64(0x30, 0x1_0000);
            sample.set64(0x38, 0x1_0000);
            sample.set64(0x40, 0x2_0000);
            sample.set64(0x48, 0x6_0000);
            sample.set64(0x50, 0x1_0000);
            sample.set64(0x58, 0x7_0000);
            sample.set64(0x60, 0x7_00c0);
            sample.set32(0x68, 2);
            sample.set64(0x70, 0x7_0130);
            sample.set32(0x78, 2);
            sample.set32(0x7c, 0x7_01f0);
            sample
        }

        fn set(&mut self, offset: usize, bytes: &[u8]) {
            self.bytes[offset..offset + bytes.len()].copy_from_slice(bytes);
        }

        fn set16(&mut self, offset: usize, value: u16) {
            self.set(offset, &value.to_le_bytes());
        }

        fn set32(&mut self, offset: usize, value: u32) {
            self.set(offset, &value.to_le_bytes());
        }

        fn set64(&mut self, offset: usize, value: u64) {
            self.set(offset, &value.to_le_bytes());
        }

        fn get(&self, offset: usize, len: usize) -> u128 {
            let bytes = &self.bytes[offset..offset + len];

            bytes
                .iter()
                .rev()
                .fold(0, |value, &byte| value << 8 | u128::from(byte))
        }

        fn parse(&self) -> Result<Descriptor, DescriptorError> {
            Descriptor::parse(&self.bytes, &self.function)
        }

        fn fault(&self) -> Option<DescriptorError> {
            self.parse().err()
        }

        /// Whether a descriptor is taken, which it must not be if there is something wrong with it.
        fn is_taken(&self) -> Result<bool, &'static str> {
            match self.parse() {
                Ok(parsed) => self.check(&parsed).and(Ok(true)),
                Err(_) => Ok(false),
            }
        }

        /// Looks for something wrong with a descriptor that was taken. It knows nothing of how that
        /// came about, and has numbers in which nothing overflows.
        fn check(&self, parsed: &Descriptor) -> Result<(), &'static str> {
            let when = |good: bool, wrong| good.then_some(()).ok_or(wrong);
            let bar_size = |bar: u128| {
                let size = self.function.bars.get(bar as usize);
                size.map_or(0, |&size| u128::from(size))
            };

            when(self.bytes.starts_with(b"UXIVEAFU\x01\0"), "magic, version")?;
            when(self.get(0x0c, 4) == 1, "flags")?;
            let end = self.bytes[0x10..0x28].iter().position(|&byte| byte == 0);
            let end = 0x10 + end.ok_or("name without end")?;
            when(end > 0x10, "empty name")?;
            for byte in &self.bytes[0x10..end] {
                when(
                    matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b',' | b'-'),
                    "name",
                )?;
            }
            when(self.get(0x6c, 4) == 0, "reserved")?;
            for zeros in [&self.bytes[end..0x28], &self.bytes[0x84..]] {
                when(zeros.iter().all(|&byte| byte == 0), "not 0")?;
            }

            let (contexts, slots) = (self.get(0x28, 4), self.get(0x2c, 4));
            let size = self.get(0x38, 8);
            let (global_start, global_size) = (self.get(0x48, 8), self.get(0x50, 8));
            when((1..=512).contains(&contexts), "contexts")?;
            when(slots <= 2047, "slots")?;
            when(size > 0 && size.max(global_size) <= 1 << 30, "sizes")?;

            // The parts that programs map: BAR 2, offset by offset.
            let in_units = [0x30, 0x38, 0x40, 0x48, 0x50];
            let whole = in_units.iter().all(|&at| self.get(at, 8) & 0xffff == 0);
            when(whole, "MMIO alignment")?;
            let mmio = |context: u128| {
                let start = self.get(0x30, 8) + context * self.get(0x40, 8);
                (2, start, start + size)
            };
            let global = (2, global_start, global_start + global_size);

            // The parts that they must not map.
            let msix = &self.function.msix;
            let table = |from: u128, to: u128| {
                let start = u128::from(msix.offset);
                (msix.bar as u128, start + from * 16, start + to * 16)
            };
            let entries = contexts * slots;
            let control = (2, self.get(0x58, 8), self.get(0x58, 8) + contexts * 64);
            let cookies = (2, self.get(0x60, 8), self.get(0x60, 8) + entries * 8);
            let store = self.get(0x70, 8);
            let store = (self.get(0x68, 4), store, store + entries * 16);
            let doorbell = (self.get(0x78, 4), self.get(0x7c, 4), self.get(0x7c, 4) + 4);
            let first = table(0, 1);
            let rest = table(1, msix.entries.into());
            let own = [
                (2, 0, 0x1_0000),
                control,
                cookies,
                doorbell,
                first,
                store,
                rest,
            ];

            for (offset, unit) in [(0x58, 64), (0x60, 8), (0x70, 16)] {
                when(self.get(offset, 8) & (unit - 1) == 0, "alignment")?;
            }
            when(doorbell.1 & 3 == 0, "doorbell alignment")?;
            let apart = |one: (u128, u128, u128), other: (u128, u128, u128)| {
                let empty = one.1 == one.2 || other.1 == other.2;
                empty || one.0 != other.0 || one.2 <= other.1 || other.2 <= one.1
            };
            for (number, &one) in own.iter().enumerate() {
                when(one.0 < 6, "no such BAR")?;
                when(
                    one == first || one == rest || one.2 <= bar_size(one.0),
                    "outside",
                )?;
                when(apart(one, global), "in the global MMIO")?;
                for &other in own.iter().take(number) {
                    // The store may have these.
                    when(
                        apart(one, other) || (other, one) == (store, rest),
                        "overlap",
                    )?;
                }
            }
            when(global.2 <= bar_size(2), "global MMIO outside")?;
            for context in 0..contexts {
                let range = mmio(context);
                when(range.2 <= bar_size(2), "MMIO outside")?;
                when(apart(range, global), "MMIO in the global")?;
                when(range.2 <= mmio(context + 1).1, "MMIO in the next")?;
                when(own.iter().all(|&own| apart(own, range)), "in MMIO")?;

                let told = parsed.mmio(context as u32).ok_or("no MMIO")?;
                let told = (2, u128::from(told.start), u128::from(told.end));
                when(told == range, "other MMIO")?;
                let told = parsed.control_block(context as u32).map(u128::from);
                when(
                    told == Some(control.1 + context * 64),
                    "other control block",
                )?;
            }
            for context in [0, contexts / 2, contexts - 1, contexts, 0xffff_ffff] {
                for slot in [0, slots / 2, slots.saturating_sub(1), slots, 0xffff_ffff] {
                    let real = context < contexts && slot < slots;
                    let entry = context * slots + slot;
                    let (context, slot) = (context as u32, slot as u32);
                    let told = parsed.cookie(context, slot).map(u128::from);
                    when(told == real.then_some(cookies.1 + entry * 8), "cookie")?;
                    let told = parsed.store_entry(context, slot).map(u128::from);
                    when(told == real.then_some(store.1 + entry * 16), "store entry")?;
                }
            }
            when(parsed.mmio(contexts as u32).is_none(), "MMIO of nobody")?;
            when(
                parsed.control_block(contexts as u32).is_none(),
                "block of nobody",
            )
        }
    }

    const SAMPLES: [fn() -> Sample; 2] = [Sample::apart, Sample::together];

    /// Numbers that are the same each time: xorshift.
    struct Numbers(u64);

    impl Numbers {
        fn next(&mut self) -> u64 {
            self.0 ^= self.0 << 13;
            self.0 ^= self.0 >> 7;
            self.0 ^= self.0 << 17;
            self.0
        }

        fn below(&mut self, end: u64) -> u64 {
            (self.next() >> 16) % end
        }

        /// A multiple of `unit`, below `end` of them; one in 64 is none, or far out.
        fn multiple(&mut self, unit: u64, end: u64) -> u64 {
            match self.below(256) {
                0 => self.next(),
                1 => 0u64.wrapping_sub(unit),
                2 => 1 << 63,
                3 => unit / 2,
                _ => unit * self.below(end),
            }
        }
    }

    /// Changes a sample, and says what is wrong with it then.
    macro_rules! refused {
        ($sample:expr, $($set:ident($($argument:expr),*)),* => $fault:expr) => {{
            let mut sample = $sample;
            $(sample.$set($($argument),*);)*
            assert_eq!(sample.fault(), Some($fault));
        }};
    }

    #[test]
    fn all_of_a_good_one_is_read() -> Result {
        for sample in SAMPLES {
            assert_eq!(sample().is_taken(), Ok(true));
        }
        let good = Sample::apart().parse().map_err(|_| EINVAL)?;
        assert_eq!(
            CString::try_from_fmt(fmt!("{}", good.name))?.to_bytes(),
            b"IBM,MEMCPY3"
        );
        assert_eq!((good.major, good.minor), (3, 5));
        assert_eq!(
            (good.contexts, good.slots, good.mmio_size),
            (32, 63, 0x4_0000)
        );
        assert_eq!(good.global, 0x2_0000..0x3_0000);
        assert_eq!(good.control, 0x1_0000..0x1_0800);
        assert_eq!(good.cookies, 0x1_1000..0x1_4f00);
        assert_eq!((good.store_bar, good.store), (1, 0x10..0x7e10));
        let bell = good.doorbell;
        assert_eq!((bell.bar, bell.offset, bell.value), (0, 12, 0x1234_5678));
        Ok(())
    }

    #[test]
    fn what_is_not_known_is_refused() {
        use DescriptorError::*;

        refused!(Sample::apart(), set(0, b"u") => Magic);
        refused!(Sample::apart(), set16(0x08, 0) => Version(0));
        refused!(Sample::apart(), set16(0x08, 2) => Version(2));
        refused!(Sample::apart(), set32(0x0c, 3) => Flags(2));
        refused!(Sample::apart(), set32(0x0c, 1 << 31) => Flags(1 << 31));
        refused!(Sample::apart(), set32(0x0c, 0) => Dma);
        refused!(Sample::apart(), set32(0x6c, 1) => Reserved);
        refused!(Sample::apart(), set(0x84, b"\x01") => Reserved);
        refused!(Sample::apart(), set(0xff, b"\x80") => Reserved);
    }

    #[test]
    fn a_name_is_one_of_a_file() {
        for bad in [
            b"\0", b"\n", b".", b"/", b" ", b"%", b"@", b"[", b"`", b"{", b"\x7f", b"\xc3",
        ] {
            refused!(Sample::apart(), set(0x10, bad) => DescriptorError::Name);
        }
        refused!(Sample::apart(), set(0x10, b"123456789_123456789_1234") => DescriptorError::Name);
        refused!(Sample::apart(), set(0x10, b"name\0rest") => DescriptorError::Name);
        refused!(Sample::apart(), set(0x27, b"x") => DescriptorError::Name);

        let mut sample = Sample::apart();
        sample.set(0x10, b"aZ09_,-_,-_,-_,-_,-_,-a\0");
        assert_eq!(sample.is_taken(), Ok(true));
    }

    #[test]
    fn sizes_have_bounds() {
        use DescriptorError::*;

        refused!(Sample::apart(), set32(0x28, 0) => Contexts(0));
        refused!(Sample::apart(), set32(0x28, 513) => Contexts(513));
        refused!(Sample::apart(), set32(0x2c, 2048) => Slots(2048));
        for bad in [0, 0x8000, 0x4_0004, (1 << 30) + UNIT, 1 << 63] {
            refused!(Sample::apart(), set64(0x38, bad) => MmioSize(bad));
        }
        for bad in [0, 0x3_0000, 0x4_8000, u64::MAX] {
            refused!(Sample::apart(), set64(0x40, bad) => Stride(bad));
        }
        for bad in [0x8000, 0x1_0001, (1 << 30) + UNIT, u64::MAX - 0xffff] {
            refused!(Sample::apart(), set64(0x50, bad) => GlobalSize(bad));
        }
        refused!(Sample::apart(), set64(0x50, 0) => GlobalOffset(0x2_0000));
    }

    #[test]
    fn bounds_can_be_reached() {
        let mut sample = Sample::apart();
        sample.function.bars[1] = 1 << 24;
        sample.function.bars[2] = (512 << 30) + (3 << 30);
        sample.function.msix.entries = 2048;
        sample.set32(0x28, 512);
        sample.set32(0x2c, 2047);
        sample.set64(0x30, 3 << 30);
        sample.set64(0x38, 1 << 30);
        sample.set64(0x40, 1 << 30);
        sample.set64(0x48, 1 << 30);
        sample.set64(0x50, 1 << 30);
        sample.set64(0x60, 0x2_0000);
        assert_eq!(sample.is_taken(), Ok(true));

        // One context has no other to be distant from.
        let mut sample = Sample::apart();
        sample.set32(0x28, 1);
        sample.set64(0x40, u64::MAX << 16);
        assert_eq!(sample.is_taken(), Ok(true));
    }

    #[test]
    fn what_is_empty_is_nowhere() {
        let mut sample = Sample::apart();
        sample.set32(0x2c, 0);
        sample.set64(0x48, 0);
        sample.set64(0x50, 0);
        sample.set64(0x60, 8);
        sample.set32(0x68, 5);
        sample.set64(0x70, 0);
        assert_eq!(sample.is_taken(), Ok(true));
        sample.set64(0x70, 0x10);
        assert_eq!(sample.fault(), Some(DescriptorError::Room(Part::Store, 5)));
    }

    #[test]
    fn parts_are_aligned() {
        use Part::*;

        for (offset, part, bad) in [
            (0x30, Mmio, 0x4_8000),
            (0x48, Global, 0x2_1000),
            (0x58, Control, 0x1_0020),
            (0x60, Cookies, 0x1_1004),
            (0x70, Store, 0x18),
        ] {
            refused!(Sample::apart(), set64(offset, bad) => DescriptorError::Alignment(part, bad));
        }
        refused!(Sample::apart(), set32(0x7c, 14) => DescriptorError::Alignment(Doorbell, 14));
    }

    #[test]
    fn parts_lie_in_their_bars() {
        use DescriptorError::*;

        refused!(Sample::apart(), set32(0x68, 6) => Bar(Part::Store, 6));
        refused!(Sample::apart(), set32(0x78, u32::MAX) => Bar(Part::Doorbell, u32::MAX));
        refused!(Sample::apart(), set32(0x68, 3) => Room(Part::Store, 3));
        refused!(Sample::apart(), set32(0x78, 5) => Room(Part::Doorbell, 5));
        refused!(Sample::apart(), set32(0x7c, 0x100) => Room(Part::Doorbell, 0));
        refused!(Sample::apart(), set32(0x7c, u32::MAX - 3) => Room(Part::Doorbell, 0));
        refused!(Sample::apart(), set64(0x70, 0x210) => Room(Part::Store, 1));
        refused!(Sample::apart(), set64(0x30, 0x5_0000) => Room(Part::Mmio, 2));
        refused!(Sample::apart(), set64(0x48, 0x84_0000) => Room(Part::Global, 2));
        refused!(Sample::apart(), set64(0x58, 0x83_f840) => Room(Part::Control, 2));
        refused!(Sample::apart(), set64(0x60, 0x83_c108) => Room(Part::Cookies, 2));

        for (part, size) in [(Part::Configuration, 0xffff), (Part::Mmio, 0x83_ffff)] {
            let mut sample = Sample::apart();
            sample.function.bars[2] = size;
            assert_eq!(sample.fault(), Some(Room(part, 2)));
        }
        let mut sample = Sample::apart();
        sample.function.bars[1] = 0x7e10;
        assert_eq!(sample.is_taken(), Ok(true));
        sample.function.bars[1] -= 1;
        assert_eq!(sample.fault(), Some(Room(Part::Store, 1)));
    }

    #[test]
    fn nothing_wraps_around() {
        for (offset, part, alignment) in [
            (0x30, Part::Mmio, UNIT),
            (0x48, Part::Global, UNIT),
            (0x58, Part::Control, 64),
            (0x60, Part::Cookies, 8),
        ] {
            let far = 0u64.wrapping_sub(alignment);
            refused!(Sample::apart(), set64(offset, far) => DescriptorError::Room(part, 2));
        }
        refused!(Sample::apart(), set64(0x70, u64::MAX - 15) => DescriptorError::Room(Part::Store, 1));
        // The distance from the first context to the last is 2^64.
        refused!(
            Sample::apart(), set32(0x28, 33), set32(0x2c, 60), set64(0x40, 1 << 59) =>
            DescriptorError::Room(Part::Mmio, 2)
        );
        refused!(
            Sample::apart(), set32(0x28, 2), set64(0x30, 0), set64(0x40, u64::MAX << 16) =>
            DescriptorError::Room(Part::Mmio, 2)
        );
    }

    #[test]
    fn parts_are_apart() {
        use Part::*;

        for (one, other, offset, at) in [
            (Configuration, Mmio, 0x30, 0u64),
            (Configuration, Global, 0x48, 0),
            (Configuration, Control, 0x58, 0xffc0),
            (Configuration, Cookies, 0x60, 0xfff8),
            (Configuration, Store, 0x70, 0xfff0),
            (Mmio, Global, 0x48, 0x1_0000),
            (Mmio, Global, 0x48, 0x5_0000),
            // Between two contexts.
            (Mmio, Global, 0x48, 0x2_0000),
            (Mmio, Control, 0x58, 0x5_ffc0),
            (Mmio, Cookies, 0x60, 0x3_fff8),
            (Mmio, Store, 0x70, 0x5_fff0),
            (Global, Control, 0x58, 0x6_ffc0),
            (Global, Cookies, 0x60, 0x6_fff8),
            (Global, Store, 0x70, 0x6_fff0),
            (Control, Cookies, 0x60, 0x7_00b8),
            (Control, Store, 0x70, 0x7_00b0),
            (Cookies, Store, 0x70, 0x7_0110),
        ] {
            refused!(Sample::together(), set64(offset, at) => DescriptorError::Overlap(one, other));
        }
        for (one, at) in [
            (Configuration, 0x110),
            (Mmio, 0x5_fffc),
            (Global, 0x6_0000),
            (Control, 0x7_0000),
            (Cookies, 0x7_011c),
            (Store, 0x7_0130),
            (Store, 0x7_01ec),
        ] {
            refused!(Sample::together(), set32(0x7c, at) => DescriptorError::Overlap(one, Doorbell));
        }
    }

    #[test]
    fn the_msix_table_is_apart() {
        let table = |part, offset, entries| {
            let mut sample = Sample::together();
            sample.function.msix = MsixTable {
                bar: 2,
                offset,
                entries,
            };
            (
                sample.fault(),
                Some(DescriptorError::Overlap(part, Part::MsixTable)),
            )
        };

        for (part, offset, entries) in [
            (Part::Configuration, 0xfff0, 1),
            (Part::Mmio, 0x1_0000, 1),
            (Part::Mmio, 0x5_fff0, 1),
            (Part::Global, 0x6_0000, 2048),
            (Part::Control, 0x7_00b0, 1),
            (Part::Cookies, 0x7_0110, 2),
            (Part::Store, 0x7_0130, 12),
            (Part::Store, 0x7_01e0, 1),
            (Part::Doorbell, 0x7_0120, 14),
            (Part::Doorbell, 0x7_01f0, 1),
        ] {
            let (fault, expected) = table(part, offset, entries);
            assert_eq!(fault, expected);
        }
        refused!(Sample::apart(), set64(0x70, 0) => DescriptorError::Overlap(Part::Store, Part::MsixTable));
    }

    #[test]
    fn a_descriptor_with_a_changed_byte_is_refused_or_sound() {
        let mut numbers = Numbers(6);
        let (mut taken, mut refused) = (0, 0);

        for sample in SAMPLES {
            for offset in 0..BYTES {
                let byte = sample().bytes[offset];
                let flips = (0..8).map(|bit| byte ^ 1 << bit);
                let others = [0, 0xff, numbers.next() as u8, numbers.next() as u8];
                for changed in Iterator::chain(flips, others) {
                    let mut sample = sample();
                    sample.set(offset, &[changed]);
                    let result = sample.is_taken();
                    assert!(result.is_ok());
                    *(if result == Ok(true) {
                        &mut taken
                    } else {
                        &mut refused
                    }) += 1;
                }
            }
        }
        pr_info!("changed descriptors: {taken} taken, {refused} refused\n");
        assert_eq!(taken + refused, 2 * BYTES * 12);
        assert!(taken > 100 && refused > 4000);
    }

    #[test]
    fn random_blocks_are_refused_or_sound() {
        let mut numbers = Numbers(7);
        let mut taken = 0;

        for _ in 0..1000 {
            let mut sample = Sample::apart();
            for offset in (0x0a..BYTES - 8).step_by(8) {
                sample.set64(offset, numbers.next());
            }
            let result = sample.is_taken();
            assert!(result.is_ok());
            taken += i32::from(result == Ok(true));
        }
        pr_info!("random blocks: {taken} of 1000 taken\n");
    }

    #[test]
    fn random_places_are_refused_or_sound() {
        const ROUNDS: u32 = 20000;
        let mut numbers = Numbers(8);
        let mut taken = 0;

        for _ in 0..ROUNDS {
            let mut sample = Sample::together();
            let size = numbers.multiple(UNIT, 4);
            sample.set32(0x28, numbers.below(9) as u32);
            sample.set32(0x2c, numbers.below(3) as u32 * 128);
            sample.set64(0x30, numbers.multiple(UNIT, 64));
            sample.set64(0x38, size);
            sample.set64(0x40, size.wrapping_add(numbers.multiple(UNIT, 3)));
            sample.set64(0x48, numbers.multiple(UNIT, 64));
            sample.set64(0x50, numbers.multiple(UNIT, 3));
            sample.set64(0x58, numbers.multiple(UNIT / 2, 128));
            sample.set64(0x60, numbers.multiple(UNIT / 4, 256));
            sample.set32(0x68, numbers.below(4) as u32);
            sample.set64(
                0x70,
                numbers.multiple(UNIT / 4, 256) | numbers.below(2) << 4,
            );
            sample.set32(0x78, numbers.below(4) as u32);
            sample.set32(0x7c, numbers.multiple(UNIT / 4, 256) as u32);
            sample.function.bars = [0x1000, UNIT, 64 * UNIT, 0, 0, 0];
            sample.function.msix = MsixTable {
                bar: 1 + numbers.below(2) as usize,
                offset: (numbers.below(256) * UNIT / 4) as u32,
                entries: 1 + numbers.below(2048) as u16,
            };
            let result = sample.is_taken();
            assert!(result.is_ok());
            taken += u32::from(result == Ok(true));
        }
        pr_info!("random places: {taken} of {ROUNDS} taken\n");
        assert!(taken > ROUNDS / 200 && taken < ROUNDS / 2);
    }
}
