// SPDX-License-Identifier: GPL-2.0 OR MIT

//! How often a virtual CPU has left the guest, and why: KVM's binary statistics.
//!
//! `Documentation/virt/kvm/api.rst`, "KVM_GET_STATS_FD".

use crate::abi;
use core::{
    ffi::CStr,
    fmt,
    mem::offset_of,
    ops::Sub, //
};
use std::{
    fs::File,
    io,
    os::unix::fs::FileExt, //
};

/// Exits of a virtual CPU, of each kind.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Exits {
    /// All of them: `sum_exits`.
    pub all: u64,
    /// Those of the host's clock tick: `dec_exits`.
    pub ticks: u64,
    /// Those of interrupts of the host, which are other programs': `ext_intr_exits`.
    pub interrupts: u64,
}

impl Exits {
    /// Those that the guest has caused itself.
    pub fn own(&self) -> u64 {
        self.all - self.ticks - self.interrupts
    }
}

impl Sub for Exits {
    type Output = Self;

    fn sub(self, earlier: Self) -> Self {
        Self {
            all: self.all - earlier.all,
            ticks: self.ticks - earlier.ticks,
            interrupts: self.interrupts - earlier.interrupts,
        }
    }
}

impl fmt::Display for Exits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} exits of its own, {} of the tick, {} of host interrupts",
            self.own(),
            self.ticks,
            self.interrupts
        )
    }
}

/// The statistics of a virtual CPU.
#[derive(Debug)]
pub struct Stats {
    file: File,
    /// Where the three counters are in the file.
    counters: [u64; 3],
}

/// Returns the 4 bytes there.
fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?))
}

impl Stats {
    /// Returns those in a file that `KVM_GET_STATS_FD` has made.
    pub(crate) fn new(file: File) -> io::Result<Self> {
        let unknown = || io::Error::from(io::ErrorKind::Unsupported);
        let read = |at: u32, size: usize| {
            let mut bytes = vec![0; size];

            file.read_exact_at(&mut bytes, at.into()).map(|()| bytes)
        };
        let header = read(0, size_of::<abi::StatsHeader>())?;
        let field = |at: usize| word(&header, at).ok_or_else(unknown);
        let name_at = size_of::<abi::StatsDesc>();
        let size = name_at + field(offset_of!(abi::StatsHeader, name_size))? as usize;
        let count = field(offset_of!(abi::StatsHeader, num_desc))? as usize;
        let data = field(offset_of!(abi::StatsHeader, data_offset))?;
        let descriptors = read(
            field(offset_of!(abi::StatsHeader, desc_offset))?,
            count * size,
        )?;
        let find = |name: &str| {
            let mut each = descriptors.chunks_exact(size);
            let found = each.find(|each| {
                CStr::from_bytes_until_nul(&each[name_at..])
                    .is_ok_and(|there| there.to_bytes() == name.as_bytes())
            });
            let at = found.and_then(|each| word(each, offset_of!(abi::StatsDesc, offset)));

            at.map(|at| u64::from(data) + u64::from(at))
                .ok_or_else(unknown)
        };

        Ok(Self {
            counters: [
                find("sum_exits")?,
                find("dec_exits")?,
                find("ext_intr_exits")?,
            ],
            file,
        })
    }

    /// Reads them. A running virtual CPU may exit meanwhile.
    pub fn exits(&self) -> io::Result<Exits> {
        let counter = |at: u64| {
            let mut value = [0; 8];

            self.file
                .read_exact_at(&mut value, at)
                .map(|()| u64::from_ne_bytes(value))
        };
        let [all, ticks, interrupts] = self.counters;
        // The sum last: it is never less than the others.
        let (ticks, interrupts) = (counter(ticks)?, counter(interrupts)?);

        Ok(Exits {
            all: counter(all)?,
            ticks,
            interrupts,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::fs::{
        memfd_create,
        MemfdFlags, //
    };

    const NAME_SIZE: u32 = 48;

    /// A file as KVM's, with these counters.
    fn statistics(counters: &[(&str, u64)]) -> File {
        let file = File::from(memfd_create("statistics", MemfdFlags::CLOEXEC).unwrap());
        let count = counters.len() as u32;
        let (descriptors, size) = (24 + NAME_SIZE, 16 + NAME_SIZE);
        let data = descriptors + count * size;
        let header = [0, NAME_SIZE, count, 24, descriptors, data];
        let write = |at: u32, bytes: &[u8]| file.write_all_at(bytes, at.into()).unwrap();

        write(0, &header.map(u32::to_ne_bytes).concat());
        for (index, (name, value)) in (0..).zip(counters) {
            let at = descriptors + index * size;

            write(at + 8, &(8 * index).to_ne_bytes());
            write(at + 16, &[0; NAME_SIZE as usize]);
            write(at + 16, name.as_bytes());
            write(data + 8 * index, &value.to_ne_bytes());
        }
        file
    }

    #[test]
    fn counters_are_found_by_their_names() {
        let file = statistics(&[
            ("dec_exits", 5),
            ("sum", 1),
            ("sum_exits", 9),
            ("ext_intr_exits", 3),
        ]);
        let exits = Stats::new(file).unwrap().exits().unwrap();

        assert_eq!((exits.all, exits.ticks, exits.interrupts), (9, 5, 3));
        assert_eq!(exits.own(), 1);
        assert_eq!((exits - exits).own(), 0);
    }

    #[test]
    fn what_kvm_does_not_count_is_an_error() {
        let error = Stats::new(statistics(&[("sum_exits", 1)])).unwrap_err();

        assert_eq!(error.kind(), io::ErrorKind::Unsupported);
        assert!(Stats::new(statistics(&[])).is_err());
    }
}
