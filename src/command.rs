// SPDX-License-Identifier: GPL-2.0

//! The calls of uxive's own: from the bytes of an argument to a [`Command`], checked as far as bytes can
//! be. Whether slots, chips, eventfds and rights exist is checked where the command is carried out.
//!
//! Pure: it reads no memory of a program and knows no context, so it builds on the host as well. The
//! structures are described in `include/uapi/misc/uxive.h`.

use crate::{
    layout::MAX_RANGE,
    uapi::{
        self,
        *, //
    }, //
};
use core::ops::Range;
use kernel::prelude::*;

/// The size of the largest structure, in bytes.
pub(crate) const MAX_SIZE: usize = size_of::<uxive_info>();

/// A structure that begins with its size, as the program knows it, and flags; later kernels have more
/// fields at its end.
pub(crate) trait Extensible: FromBytes + IntoBytes {
    /// The size of the first version that was published, in bytes.
    const FIRST_SIZE: usize;

    /// The flags that there are.
    const FLAGS: u32;

    /// Returns the flags that are set.
    fn flags(&self) -> u32;
}

macro_rules! extensible {
    ($($structure:ident: $first_size:literal, $flags:expr;)*) => {$(
        impl Extensible for $structure {
            const FIRST_SIZE: usize = $first_size;
            const FLAGS: u32 = $flags;

            fn flags(&self) -> u32 {
                self.flags
            }
        }

        const _: () = assert!(size_of::<$structure>() <= MAX_SIZE);
    )*};
}

extensible! {
    uxive_info: 160, 0;
    uxive_user_drain: 48, 0;
    uxive_arm: 8, 0;
    uxive_irq_alloc: 24, UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE;
    uxive_irq_alloc_many: 32, UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE | UXIVE_ALLOC_AT;
    uxive_irq_free_many: 16, 0;
    uxive_irq_free_all: 8, 0;
    uxive_set_irqs: 24, SET_DATA | SET_ACTIONS | UXIVE_SET_BYPASS;
    uxive_range: 16, 0;
    uxive_ims_alloc: 32, UXIVE_IMS_QUEUE;
    uxive_export: 32, 0;
    uxive_export_info: 32, 0;
    uxive_revoke: 16, 0;
}

/// `UXIVE_SET_DATA_*`
const SET_DATA: u32 = UXIVE_SET_DATA_NONE | UXIVE_SET_DATA_BOOL | UXIVE_SET_DATA_EVENTFD;

/// The actions of `uxive_set_irqs`.
const SET_ACTIONS: u32 = UXIVE_SET_MASK | UXIVE_SET_UNMASK | UXIVE_SET_TRIGGER;

/// Returns the structure whose bytes are `bytes`, as many as the program says that it has. Fields beyond
/// them are 0.
///
/// # Errors
///
/// - `EINVAL` if they are fewer than the first version had, or unknown flags are set.
/// - `E2BIG` if they are more than the structure has, and any of those is not 0: the program expects
///   something that this driver does not do.
pub(crate) fn structure<T: Extensible>(bytes: &[u8]) -> Result<T> {
    if bytes.len() < T::FIRST_SIZE {
        return Err(EINVAL);
    }
    let (known, beyond) = bytes.split_at(bytes.len().min(size_of::<T>()));
    if beyond.iter().any(|&byte| byte != 0) {
        return Err(E2BIG);
    }

    let mut value = T::new_zeroed();
    for (to, from) in value.as_mut_bytes().iter_mut().zip(known) {
        *to = *from;
    }
    match value.flags() & !T::FLAGS {
        0 => Ok(value),
        _ => Err(EINVAL),
    }
}

/// The chips that new interrupts come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChipChoice {
    Any,
    /// The chip of this number.
    Chip(u32),
    /// The chips of the NUMA node of this number.
    Node(u32),
}

impl ChipChoice {
    fn new(flags: u32, number: u32) -> Result<Self> {
        match (flags & (UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE), number) {
            (0, 0) => Ok(Self::Any),
            (UXIVE_ALLOC_CHIP, number) => Ok(Self::Chip(number)),
            (UXIVE_ALLOC_NODE, number) => Ok(Self::Node(number)),
            _ => Err(EINVAL),
        }
    }
}

/// An array of the program, by its address.
pub(crate) type Address = u64;

/// Which interrupts of a range of slots a call is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Chosen {
    All,
    /// Those whose byte in this array is not 0.
    Bytes(Address),
}

/// The action of `UXIVE_IOC_SET_IRQS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SetAction {
    /// Binds each to its eventfd in this array of `i32`.
    Bind(Address),
    /// Binds the only one for irq bypass to the eventfd there.
    Bypass(Address),
    Trigger(Chosen),
    Mask(Chosen),
    Unmask(Chosen),
}

/// A call, as its argument says.
///
/// An eventfd is a descriptor, or -1 for none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Info,
    UserDrain {
        eventfd: i32,
    },
    Arm,
    IrqAlloc {
        chips: ChipChoice,
    },
    IrqAllocMany {
        chips: ChipChoice,
        /// The first slot, or none for the lowest that are free.
        start: Option<usize>,
        /// Not 0.
        count: usize,
        /// An array of `i32`.
        eventfds: Option<Address>,
    },
    IrqFreeMany {
        slots: Range<usize>,
    },
    IrqFreeAll,
    SetIrqs {
        slots: Range<usize>,
        action: SetAction,
    },
    ImsAlloc {
        /// 0 for any queue.
        queue: u32,
        eventfd: i32,
    },
    Export {
        slots: Range<usize>,
        /// In a second, of all together.
        max_rate: u32,
    },
    Revoke {
        id: u32,
    },
}

/// Makes a [`Command`] of the bytes of its argument.
pub(crate) type Decoder = fn(&[u8]) -> Result<Command>;

impl Command {
    /// Returns what decodes the argument of the ioctl `number`, if it is one of these.
    pub(crate) fn decoder(number: u32) -> Option<Decoder> {
        // With their path: a name without one, if it does not exist, would match any number.
        Some(match number {
            uapi::UXIVE_IOC_INFO => decode::<uxive_info>,
            uapi::UXIVE_IOC_USER_DRAIN => decode::<uxive_user_drain>,
            uapi::UXIVE_IOC_ARM => decode::<uxive_arm>,
            uapi::UXIVE_IOC_IRQ_ALLOC => decode::<uxive_irq_alloc>,
            uapi::UXIVE_IOC_IRQ_ALLOC_MANY => decode::<uxive_irq_alloc_many>,
            uapi::UXIVE_IOC_IRQ_FREE_MANY => decode::<uxive_irq_free_many>,
            uapi::UXIVE_IOC_IRQ_FREE_ALL => decode::<uxive_irq_free_all>,
            uapi::UXIVE_IOC_SET_IRQS => decode::<uxive_set_irqs>,
            uapi::UXIVE_IOC_IMS_ALLOC => decode::<uxive_ims_alloc>,
            uapi::UXIVE_IOC_EXPORT => decode::<uxive_export>,
            uapi::UXIVE_IOC_REVOKE => decode::<uxive_revoke>,
            _ => return None,
        })
    }
}

/// Returns the command whose argument is a `T` of these bytes.
///
/// # Errors
///
/// Those of [`structure`]; `EINVAL` if its fields contradict each other, name slots that no context has,
/// or are reserved and not 0.
fn decode<T: Extensible>(bytes: &[u8]) -> Result<Command>
where
    Command: TryFrom<T, Error = Error>,
{
    structure::<T>(bytes)?.try_into()
}

/// Returns the `count` slots from `start` on.
///
/// # Errors
///
/// `EINVAL` if there is none of them, or no context has them all.
fn slots(start: u32, count: u32) -> Result<Range<usize>> {
    let slots = start as usize..start as usize + count as usize;

    match slots.is_empty() || slots.end > MAX_RANGE {
        true => Err(EINVAL),
        false => Ok(slots),
    }
}

/// # Errors
///
/// `EINVAL` if a reserved field is not 0.
fn zero(reserved: u32) -> Result {
    match reserved {
        0 => Ok(()),
        _ => Err(EINVAL),
    }
}

impl TryFrom<uxive_info> for Command {
    type Error = Error;

    fn try_from(_: uxive_info) -> Result<Self> {
        Ok(Self::Info)
    }
}

impl TryFrom<uxive_user_drain> for Command {
    type Error = Error;

    fn try_from(drain: uxive_user_drain) -> Result<Self> {
        match drain.format {
            UXIVE_DRAIN_XIVE => Ok(Self::UserDrain {
                eventfd: drain.eventfd,
            }),
            _ => Err(EINVAL),
        }
    }
}

impl TryFrom<uxive_arm> for Command {
    type Error = Error;

    fn try_from(_: uxive_arm) -> Result<Self> {
        Ok(Self::Arm)
    }
}

impl TryFrom<uxive_irq_alloc> for Command {
    type Error = Error;

    fn try_from(alloc: uxive_irq_alloc) -> Result<Self> {
        zero(alloc.reserved)?;
        Ok(Self::IrqAlloc {
            chips: ChipChoice::new(alloc.flags, alloc.chip)?,
        })
    }
}

impl TryFrom<uxive_irq_alloc_many> for Command {
    type Error = Error;

    fn try_from(alloc: uxive_irq_alloc_many) -> Result<Self> {
        zero(alloc.reserved)?;
        Ok(Self::IrqAllocMany {
            chips: ChipChoice::new(alloc.flags, alloc.chip)?,
            start: match alloc.flags & UXIVE_ALLOC_AT {
                0 => zero(alloc.start).map(|()| None)?,
                _ => Some(alloc.start as usize),
            },
            count: match alloc.count {
                0 => return Err(EINVAL),
                count => count as usize,
            },
            eventfds: (alloc.eventfds != 0).then_some(alloc.eventfds),
        })
    }
}

impl TryFrom<uxive_irq_free_many> for Command {
    type Error = Error;

    fn try_from(free: uxive_irq_free_many) -> Result<Self> {
        Ok(Self::IrqFreeMany {
            slots: slots(free.start, free.count)?,
        })
    }
}

impl TryFrom<uxive_irq_free_all> for Command {
    type Error = Error;

    fn try_from(_: uxive_irq_free_all) -> Result<Self> {
        Ok(Self::IrqFreeAll)
    }
}

impl TryFrom<uxive_set_irqs> for Command {
    type Error = Error;

    fn try_from(set: uxive_set_irqs) -> Result<Self> {
        let (data, action) = (set.flags & SET_DATA, set.flags & SET_ACTIONS);
        let chosen = match (data, set.data) {
            (UXIVE_SET_DATA_NONE, 0) => Some(Chosen::All),
            (UXIVE_SET_DATA_BOOL, address) => Some(Chosen::Bytes(address)),
            (UXIVE_SET_DATA_EVENTFD, _) => None,
            _ => return Err(EINVAL),
        };
        let is_bypass = set.flags & UXIVE_SET_BYPASS != 0;
        let action = match (action, chosen) {
            (UXIVE_SET_TRIGGER, None) if is_bypass && set.count == 1 => SetAction::Bypass(set.data),
            _ if is_bypass => return Err(EINVAL),
            (UXIVE_SET_TRIGGER, None) => SetAction::Bind(set.data),
            (UXIVE_SET_TRIGGER, Some(chosen)) => SetAction::Trigger(chosen),
            (UXIVE_SET_MASK, Some(chosen)) => SetAction::Mask(chosen),
            (UXIVE_SET_UNMASK, Some(chosen)) => SetAction::Unmask(chosen),
            _ => return Err(EINVAL),
        };

        Ok(Self::SetIrqs {
            slots: slots(set.start, set.count)?,
            action,
        })
    }
}

impl TryFrom<uxive_ims_alloc> for Command {
    type Error = Error;

    fn try_from(alloc: uxive_ims_alloc) -> Result<Self> {
        zero(alloc.reserved)?;
        // A cookie has 0 for any queue, which a call asks for without the flag.
        if (alloc.flags & UXIVE_IMS_QUEUE != 0) != (alloc.queue != 0) {
            return Err(EINVAL);
        }
        Ok(Self::ImsAlloc {
            queue: alloc.queue,
            eventfd: alloc.eventfd,
        })
    }
}

impl TryFrom<uxive_export> for Command {
    type Error = Error;

    fn try_from(export: uxive_export) -> Result<Self> {
        if export.kind != UXIVE_EXPORT_FILE {
            return Err(EINVAL);
        }
        Ok(Self::Export {
            slots: slots(export.start, export.count)?,
            max_rate: match export.max_rate {
                // As often as root allows.
                0 => u32::MAX,
                rate => rate,
            },
        })
    }
}

impl TryFrom<uxive_revoke> for Command {
    type Error = Error;

    fn try_from(revoke: uxive_revoke) -> Result<Self> {
        zero(revoke.reserved)?;
        Ok(Self::Revoke { id: revoke.id })
    }
}

#[kunit_tests(uxive_command)]
mod tests {
    use super::*;

    const NUMBERS: [u32; 11] = [
        UXIVE_IOC_INFO,
        UXIVE_IOC_USER_DRAIN,
        UXIVE_IOC_ARM,
        UXIVE_IOC_IRQ_ALLOC,
        UXIVE_IOC_IRQ_ALLOC_MANY,
        UXIVE_IOC_IRQ_FREE_MANY,
        UXIVE_IOC_IRQ_FREE_ALL,
        UXIVE_IOC_SET_IRQS,
        UXIVE_IOC_IMS_ALLOC,
        UXIVE_IOC_EXPORT,
        UXIVE_IOC_REVOKE,
    ];

    const LAST: u32 = MAX_RANGE as u32;

    fn of_number(number: u32, bytes: &[u8]) -> Result<Command> {
        Command::decoder(number).ok_or(ENOTTY)?(bytes)
    }

    fn of<T: Extensible>(set: impl FnOnce(&mut T)) -> Result<Command>
    where
        Command: TryFrom<T, Error = Error>,
    {
        let mut value = T::new_zeroed();
        set(&mut value);
        decode::<T>(value.as_mut_bytes())
    }

    fn alloc(flags: u32, chip: u32, reserved: u32) -> Result<Command> {
        of(|alloc: &mut uxive_irq_alloc| {
            (alloc.flags, alloc.chip, alloc.reserved) = (flags, chip, reserved);
        })
    }

    fn alloc_many(flags: u32, chip: u32, start: u32, count: u32) -> Result<Command> {
        of(|alloc: &mut uxive_irq_alloc_many| {
            (alloc.flags, alloc.chip, alloc.start, alloc.count) = (flags, chip, start, count);
        })
    }

    fn free_many(start: u32, count: u32) -> Result<Command> {
        of(|free: &mut uxive_irq_free_many| (free.start, free.count) = (start, count))
    }

    fn set_irqs(flags: u32, start: u32, count: u32, data: u64) -> Result<Command> {
        of(|set: &mut uxive_set_irqs| {
            (set.flags, set.start, set.count, set.data) = (flags, start, count, data);
        })
    }

    fn ims_alloc(flags: u32, queue: u32, reserved: u32) -> Result<Command> {
        of(|alloc: &mut uxive_ims_alloc| {
            (alloc.flags, alloc.queue, alloc.reserved) = (flags, queue, reserved);
            alloc.eventfd = 5;
        })
    }

    fn export(kind: u32, start: u32, count: u32, max_rate: u32) -> Result<Command> {
        of(|export: &mut uxive_export| {
            (export.kind, export.start, export.count) = (kind, start, count);
            export.max_rate = max_rate;
        })
    }

    #[test]
    fn a_place_is_a_chip_or_a_node_or_neither() {
        for (flags, number, chips) in [
            (0, 0, Ok(ChipChoice::Any)),
            (0, 1, Err(EINVAL)),
            (UXIVE_ALLOC_CHIP, 0, Ok(ChipChoice::Chip(0))),
            (UXIVE_ALLOC_CHIP, u32::MAX, Ok(ChipChoice::Chip(u32::MAX))),
            (UXIVE_ALLOC_NODE, 0, Ok(ChipChoice::Node(0))),
            (UXIVE_ALLOC_NODE, 252, Ok(ChipChoice::Node(252))),
            (UXIVE_ALLOC_CHIP | UXIVE_ALLOC_NODE, 0, Err(EINVAL)),
        ] {
            let one = chips.map(|chips| Command::IrqAlloc { chips });
            let many = chips.map(|chips| Command::IrqAllocMany {
                chips,
                start: None,
                count: 2,
                eventfds: None,
            });

            assert_eq!(alloc(flags, number, 0), one);
            assert_eq!(alloc(flags, number, 1), Err(EINVAL));
            assert_eq!(alloc_many(flags, number, 0, 2), many);
        }
    }

    #[test]
    fn many_begin_where_a_flag_says() {
        let many = |start| {
            Ok(Command::IrqAllocMany {
                chips: ChipChoice::Any,
                start,
                count: 3,
                eventfds: None,
            })
        };

        assert_eq!(alloc_many(0, 0, 0, 3), many(None));
        assert_eq!(alloc_many(0, 0, 1, 3), Err(EINVAL));
        assert_eq!(alloc_many(UXIVE_ALLOC_AT, 0, 0, 3), many(Some(0)));
        assert_eq!(alloc_many(UXIVE_ALLOC_AT, 0, 9, 3), many(Some(9)));
        assert_eq!(alloc_many(UXIVE_ALLOC_AT, 0, 9, 0), Err(EINVAL));
        assert_eq!(alloc_many(0, 0, 0, 0), Err(EINVAL));
    }

    #[test]
    fn slots_are_some_and_can_be() {
        for (start, count, range) in [
            (0, 1, Some(0..1)),
            (0, LAST, Some(0..MAX_RANGE)),
            (LAST - 1, 1, Some(MAX_RANGE - 1..MAX_RANGE)),
            (0, 0, None),
            (LAST, 1, None),
            (1, LAST, None),
            (u32::MAX, u32::MAX, None),
            (1, u32::MAX, None),
        ] {
            let slots = || range.clone().ok_or(EINVAL);
            let flags = UXIVE_SET_DATA_NONE | UXIVE_SET_MASK;
            let action = SetAction::Mask(Chosen::All);

            assert_eq!(
                free_many(start, count),
                slots().map(|slots| Command::IrqFreeMany { slots })
            );
            assert_eq!(
                export(UXIVE_EXPORT_FILE, start, count, 0),
                slots().map(|slots| Command::Export {
                    slots,
                    max_rate: u32::MAX
                })
            );
            assert_eq!(
                set_irqs(flags, start, count, 0),
                slots().map(|slots| Command::SetIrqs { slots, action })
            );
        }
        for max_rate in [1, 100_000, u32::MAX] {
            assert_eq!(
                export(UXIVE_EXPORT_FILE, 0, 1, max_rate),
                Ok(Command::Export {
                    slots: 0..1,
                    max_rate
                })
            );
        }
        assert_eq!(export(0, 0, 1, 0), Err(EINVAL));
        assert_eq!(export(2, 0, 1, 0), Err(EINVAL));
    }

    #[test]
    fn one_action_with_one_kind_of_data() {
        let kinds = [
            (UXIVE_SET_DATA_NONE, 0, Some(Chosen::All)),
            (UXIVE_SET_DATA_BOOL, 0, Some(Chosen::Bytes(0))),
            (UXIVE_SET_DATA_BOOL, 64, Some(Chosen::Bytes(64))),
        ];
        let set = |action| {
            let slots = 2..5;
            Ok(Command::SetIrqs { slots, action })
        };

        for (kind, data, chosen) in kinds {
            let chosen = chosen.unwrap_or(Chosen::All);
            for (flag, action) in [
                (UXIVE_SET_TRIGGER, SetAction::Trigger(chosen)),
                (UXIVE_SET_MASK, SetAction::Mask(chosen)),
                (UXIVE_SET_UNMASK, SetAction::Unmask(chosen)),
            ] {
                assert_eq!(set_irqs(kind | flag, 2, 3, data), set(action));
            }
        }
        let eventfd = UXIVE_SET_DATA_EVENTFD;
        assert_eq!(
            set_irqs(eventfd | UXIVE_SET_TRIGGER, 2, 3, 64),
            set(SetAction::Bind(64))
        );
        for (flags, data) in [
            (eventfd | UXIVE_SET_MASK, 64),
            (eventfd | UXIVE_SET_UNMASK, 64),
            (UXIVE_SET_DATA_NONE | UXIVE_SET_MASK, 64),
        ] {
            assert_eq!(set_irqs(flags, 2, 3, data), Err(EINVAL));
        }
        // Neither none of a kind nor two.
        let bypass = eventfd | UXIVE_SET_TRIGGER | UXIVE_SET_BYPASS;
        assert_eq!(
            set_irqs(bypass, 2, 1, 64),
            Ok(Command::SetIrqs {
                slots: 2..3,
                action: SetAction::Bypass(64)
            })
        );
        assert_eq!(set_irqs(bypass, 2, 2, 64), Err(EINVAL));
        for flags in [
            UXIVE_SET_BYPASS,
            eventfd | UXIVE_SET_BYPASS,
            UXIVE_SET_DATA_NONE | UXIVE_SET_TRIGGER | UXIVE_SET_BYPASS,
            UXIVE_SET_DATA_NONE | UXIVE_SET_MASK | UXIVE_SET_BYPASS,
        ] {
            assert_eq!(set_irqs(flags, 2, 1, 0), Err(EINVAL));
        }
        for flags in 0..=SET_DATA | SET_ACTIONS {
            let one_of_each =
                (flags & SET_DATA).count_ones() == 1 && (flags & SET_ACTIONS).count_ones() == 1;
            assert!(one_of_each || set_irqs(flags, 2, 3, 0) == Err(EINVAL));
        }
    }

    #[test]
    fn a_queue_has_a_number_and_a_flag() {
        let message = |queue| Ok(Command::ImsAlloc { queue, eventfd: 5 });

        assert_eq!(ims_alloc(0, 0, 0), message(0));
        assert_eq!(ims_alloc(UXIVE_IMS_QUEUE, 7, 0), message(7));
        assert_eq!(ims_alloc(UXIVE_IMS_QUEUE, 0, 0), Err(EINVAL));
        assert_eq!(ims_alloc(0, 7, 0), Err(EINVAL));
        assert_eq!(ims_alloc(0, 0, 1), Err(EINVAL));
    }

    #[test]
    fn a_drain_has_a_format() {
        for format in [0, 1, 2, 3, u32::MAX] {
            let drain = of(|drain: &mut uxive_user_drain| {
                (drain.eventfd, drain.format) = (-1, format);
            });
            match format {
                UXIVE_DRAIN_XIVE => assert_eq!(drain, Ok(Command::UserDrain { eventfd: -1 })),
                _ => assert_eq!(drain, Err(EINVAL)),
            }
        }
    }

    #[test]
    fn a_revoked_export_has_an_id() {
        for (id, reserved) in [(0, 0), (9, 0), (9, 1)] {
            let revoke = of(|revoke: &mut uxive_revoke| {
                (revoke.id, revoke.reserved) = (id, reserved);
            });
            match reserved {
                0 => assert_eq!(revoke, Ok(Command::Revoke { id })),
                _ => assert_eq!(revoke, Err(EINVAL)),
            }
        }
    }

    fn has_a_size<T: Extensible>() {
        let mut bytes = [0; MAX_SIZE];

        for len in 0..=MAX_SIZE {
            let expected = if len < T::FIRST_SIZE {
                Err(EINVAL)
            } else {
                Ok(())
            };
            assert_eq!(structure::<T>(&bytes[..len]).map(drop), expected);
            if len > size_of::<T>() {
                bytes[len - 1] = 1;
                assert_eq!(structure::<T>(&bytes[..len]).map(drop), Err(E2BIG));
                bytes[len - 1] = 0;
            }
        }
    }

    fn has_flags<T: Extensible>() {
        for flag in (0..32).map(|bit| 1_u32 << bit) {
            let mut value = T::new_zeroed();
            value.as_mut_bytes()[4..8].copy_from_slice(&flag.to_ne_bytes());
            let refused = structure::<T>(value.as_mut_bytes()).is_err_and(|error| error == EINVAL);
            assert_eq!(refused, flag & T::FLAGS == 0);
        }
    }

    macro_rules! of_each {
        ($check:ident) => {
            of_each!($check: uxive_info uxive_user_drain uxive_arm uxive_irq_alloc
                     uxive_irq_alloc_many uxive_irq_free_many uxive_irq_free_all uxive_set_irqs
                     uxive_range uxive_ims_alloc uxive_export uxive_export_info uxive_revoke)
        };
        ($check:ident: $($structure:ident)*) => {{
            $($check::<$structure>();)*
        }};
    }

    #[test]
    fn sizes_may_grow_with_zeros() {
        of_each!(has_a_size);
    }

    #[test]
    fn unknown_flags_are_refused() {
        of_each!(has_flags);
    }

    #[test]
    fn other_numbers_are_none() {
        let others = [UXIVE_IOC_RANGE, UXIVE_IOC_EXPORT_INFO];

        for number in Iterator::chain(0..=u32::from(u16::MAX), others) {
            let known = NUMBERS.contains(&number);

            assert_eq!(Command::decoder(number).is_some(), known);
        }
    }

    /// The slots that a command names, and how many interrupts it is for.
    fn named(command: &Command) -> Option<&Range<usize>> {
        match command {
            Command::IrqFreeMany { slots }
            | Command::SetIrqs { slots, .. }
            | Command::Export { slots, .. } => Some(slots),
            _ => None,
        }
    }

    #[test]
    fn any_bytes_are_a_command_or_an_error() {
        let (mut state, mut commands, mut errors) = (1_u64, 0, 0);
        let mut bytes = [0; MAX_SIZE];

        for round in 0..20_000_usize {
            for byte in &mut bytes {
                // Mostly zeros and small numbers, as random bytes are hardly ever a command.
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1);
                let random = (state >> 33) as u8;
                *byte = if random % 8 == 0 { random >> 4 } else { 0 };
            }
            let number = NUMBERS[round % NUMBERS.len()];
            let len = (state >> 40) as usize % (MAX_SIZE + 1);
            match of_number(number, &bytes[..len]) {
                Ok(command) => {
                    commands += 1;
                    if let Some(slots) = named(&command) {
                        assert!(!slots.is_empty() && slots.end <= MAX_RANGE);
                    }
                }
                Err(error) => {
                    errors += 1;
                    assert!([EINVAL, E2BIG].contains(&error));
                }
            }
        }
        assert!(commands >= 20 && errors >= 20);
    }
}
