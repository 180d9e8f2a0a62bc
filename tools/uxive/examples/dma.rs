// SPDX-License-Identifier: GPL-2.0 OR MIT

//! A device that does DMA, and an interrupt of uxive, in one loop. The device is QEMU's `edu`, bound
//! to `vfio-pci`; its address is the argument. By VFIO, as it is on POWER, the program owns it, and
//! the device reaches the memory that is mapped for it and nothing else.
//!
//! A thread asks for a copy by ringing. The device says by an interrupt of its own that it has moved
//! the bytes, which VFIO counts in an eventfd as uxive counts a ring.

use std::{
    env,
    ffi::CString,
    fs::{
        read_link,
        File, //
    },
    io,
    os::{
        fd::{
            AsFd,
            AsRawFd,
            FromRawFd, //
        },
        unix::fs::FileExt, //
    },
    ptr,
    slice,
    sync::atomic::{
        fence,
        AtomicU64,
        Ordering, //
    },
    thread,
    time::Duration, //
};
use uxive::{
    Context,
    Event, //
};

const COPIES: u64 = 4;
const BYTES: u64 = 4096;
/// The memory that the device is given, and where it finds that.
const SIZE: u64 = 64 << 10;
const BUS: u64 = 0x10000;
/// Its own buffer, and commands: to run, towards memory or not, and to interrupt at the end.
const BUFFER: u64 = 0x40000;
const TO_DEVICE: u64 = 1 | 4;
const TO_MEMORY: u64 = 1 | 2 | 4;

/// Calls an ioctl of `<linux/vfio.h>` by its number there.
fn vfio<T>(file: &File, number: u32, argument: *mut T) -> io::Result<i32> {
    let request = 0x2000_3b64 + number;

    // SAFETY: The callers pass what it takes; a structure begins with its size.
    match unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

fn map(length: u64, flags: i32, fd: i32, offset: u64) -> io::Result<&'static [AtomicU64]> {
    let (length, access) = (length as usize, libc::PROT_READ | libc::PROT_WRITE);

    // SAFETY: It replaces no other mapping.
    match unsafe { libc::mmap(ptr::null_mut(), length, access, flags, fd, offset as _) } {
        libc::MAP_FAILED => Err(io::Error::last_os_error()),
        // SAFETY: It is that long, and stays.
        map => Ok(unsafe { slice::from_raw_parts(map.cast(), length / 8) }),
    }
}

/// The device, the program's as long as the files are open, and the memory that it reaches.
struct Edu {
    registers: &'static [AtomicU64],
    memory: &'static [AtomicU64],
    _files: [File; 3],
}

impl Edu {
    /// Takes it, and has its interrupts counted.
    fn open(address: &str, moved: &Event) -> io::Result<Self> {
        let open = |path: String| File::options().read(true).write(true).open(path);
        let link = read_link(format!("/sys/bus/pci/devices/{address}/iommu_group"))?;
        let number = link.file_name().unwrap_or_default().to_string_lossy();
        let group = open(format!("/dev/vfio/{number}"))?;
        let container = open("/dev/vfio/vfio".into())?;
        let memory = map(SIZE, libc::MAP_SHARED | libc::MAP_ANONYMOUS, -1, 0)?;
        let (place, name) = (memory.as_ptr() as u64, CString::new(address)?);
        // Regions: BAR 0, and the configuration space. [.., size, offset]
        let (mut bar, mut config) = ([32, 0, 0, 0], [32, 7, 0, 0]);

        // GROUP_SET_CONTAINER, SET_IOMMU to SPAPR_TCE_v2, GROUP_GET_DEVICE_FD
        vfio(&group, 4, &mut container.as_raw_fd())?;
        vfio(&container, 2, ptr::without_provenance_mut::<u8>(7))?;
        let fd = vfio(&group, 6, name.as_ptr().cast_mut())?;
        // SAFETY: It is a new descriptor.
        let device = unsafe { File::from_raw_fd(fd) };
        // IOMMU_SPAPR_REGISTER_MEMORY, and IOMMU_MAP_DMA to be read and written
        vfio(&container, 17, &mut [24, place, SIZE])?;
        vfio(&container, 13, &mut [3 << 32 | 32, place, BUS, SIZE])?;
        // DEVICE_GET_REGION_INFO. From here on it answers, and may do DMA.
        vfio(&device, 8, &mut bar)?;
        vfio(&device, 8, &mut config)?;
        device.write_all_at(&[2 | 4], config[3] + 4)?;
        // DEVICE_SET_IRQS: eventfds to be triggered by MSI, from 0 on, 1
        let mut irqs = [24, 4 | 1 << 5, 1, 0, 1, moved.as_fd().as_raw_fd()];
        vfio(&device, 10, &mut irqs)?;
        Ok(Self {
            registers: map(bar[2], libc::MAP_SHARED, fd, bar[3])?,
            memory,
            _files: [device, group, container],
        })
    }

    fn moves(&self, source: u64, target: u64, command: u64) {
        for (register, value) in [source, target, BYTES, command].into_iter().enumerate() {
            fence(Ordering::SeqCst);
            self.registers[16 + register].store(value.to_be(), Ordering::Relaxed);
        }
    }
}

/// Answers a ring with a copy.
fn serve(edu: &Edu, asked: &Event, moved: &Event) -> io::Result<()> {
    let mut in_device = false;

    loop {
        let mut events = [asked, moved].map(|event| libc::pollfd {
            fd: event.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        });
        // SAFETY: There are two entries, which the kernel writes.
        match unsafe { libc::poll(events.as_mut_ptr(), 2, 10_000) } {
            -1 => return Err(io::Error::last_os_error()),
            0 => return Err(io::ErrorKind::TimedOut.into()),
            _ => {}
        }
        if asked.wait(Some(Duration::ZERO))?.is_some() {
            edu.moves(BUS, BUFFER, TO_DEVICE);
        }
        if moved.wait(Some(Duration::ZERO))?.is_some() {
            if in_device {
                return Ok(());
            }
            in_device = true;
            edu.moves(BUFFER, BUS + BYTES, TO_MEMORY);
        }
    }
}

fn main() -> io::Result<()> {
    let (context, asked, moved) = (Context::open()?, Event::new()?, Event::new()?);
    let edu = Edu::open(&env::args().nth(1).unwrap_or_default(), &moved)?;
    let (irq, words) = (context.alloc()?, BYTES as usize / 8);

    irq.bind(&asked)?;
    for copy in 1..=COPIES {
        thread::scope(|scope| {
            scope.spawn(|| {
                for (at, word) in (1..).zip(&edu.memory[..words]) {
                    word.store(copy * at, Ordering::Relaxed);
                }
                irq.ring();
            });
            serve(&edu, &asked, &moved)
        })?;
        for (at, word) in (1..).zip(&edu.memory[words..2 * words]) {
            assert_eq!(word.load(Ordering::Relaxed), copy * at);
        }
    }
    println!("{COPIES} copies by DMA, each asked for by a ring and reported by the device");
    Ok(())
}
