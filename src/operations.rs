// SPDX-License-Identifier: GPL-2.0

//! The file operations of contexts: of `/dev/uxive`, of an AFU's node, and of ranges.

use crate::{
    argument::Argument,
    command,
    context::ContextKind,
    device::Device,
    file::ContextFile,
    ioctl,
    kernel_ext::{
        anon::NewFile,
        file::{
            AccessMode,
            FileOperations,
            NewMapping,
            NodeOperations,
            PollEvents, //
        },
        mapping::{
            Fault,
            FaultResult,
            FileMapping, //
        }, //
    },
    layout::MAX_RANGE,
    uapi, //
};
use core::{
    marker::PhantomData,
    mem::offset_of, //
};
use kernel::{
    fs::File,
    iov::IovIterDest,
    prelude::*,
    seq_file::SeqFile,
    sync::{
        poll::PollTable,
        Arc, //
    },
    uaccess::UserPtr, //
};

/// A device whose files are contexts.
pub(crate) trait ContextDevice: Send + Sync + 'static {
    /// Whether it can be gone while files are open.
    const MAY_GO: bool;

    /// Makes the context of a file that is being opened, whose mapping is `mapping`.
    fn open(&self, mapping: Arc<FileMapping>) -> Result<impl PinInit<ContextFile, Error>>;
}

impl ContextDevice for Arc<Device> {
    const MAY_GO: bool = false;

    fn open(&self, mapping: Arc<FileMapping>) -> Result<impl PinInit<ContextFile, Error>> {
        ContextFile::new(mapping, self.clone(), self.user()?, ContextKind::Open, None)
    }
}

/// The operations of the files of a device.
pub(crate) struct ContextOperations<D>(PhantomData<D>);

/// Those of `/dev/uxive`, and of ranges.
pub(crate) type DeviceOperations = ContextOperations<Arc<Device>>;

#[vtable]
impl<D: ContextDevice> FileOperations for ContextOperations<D> {
    type Data = ContextFile;

    fn ioctl(file: Pin<&ContextFile>, access: AccessMode, cmd: u32, arg: usize) -> Result<isize> {
        if D::MAY_GO && file.is_gone() {
            return Err(ENODEV);
        }
        ioctl::dispatch(&file, access, cmd, arg, range)
    }

    fn read(file: Pin<&ContextFile>, to: &mut IovIterDest<'_>, may_wait: bool) -> Result<usize> {
        file.read(to, may_wait)
    }

    fn poll(file: Pin<&ContextFile>, polled: &File, table: PollTable<'_>) -> PollEvents {
        file.poll(polled, &table)
    }

    fn mmap(file: Pin<&ContextFile>, area: &NewMapping<'_>) -> Result {
        file.mmap(area)
    }

    fn fault(file: Pin<&ContextFile>, fault: &Fault<'_>) -> FaultResult {
        file.fault(fault)
    }

    fn show_fdinfo(file: Pin<&ContextFile>, m: &SeqFile) {
        file.show(m);
    }
}

impl<D: ContextDevice> NodeOperations for ContextOperations<D> {
    type Device = D;

    fn open(device: &D, mapping: Arc<FileMapping>) -> Result<impl PinInit<ContextFile, Error>> {
        device.open(mapping)
    }
}

/// Makes a range: a file that is a context of its own, made from `file`, and charged to the same
/// user. Its first interrupt brings a queue that has room for as many as it can have. Its `access`
/// is that of `file`.
///
/// The ioctl is here, since the file that it makes has the operations of this room.
///
/// # Errors
///
/// - `EBADF` if `file` is not open for writing.
/// - `ENOTTY` if it is a range itself, or a context of an AFU.
/// - `EINVAL` if the range is to have no slot, or more than [`MAX_RANGE`].
/// - Those of [`Argument::read`], [`command::structure`], [`NewFile::new`] and [`ContextFile::new`].
#[inline(never)]
fn range(file: &ContextFile, access: AccessMode, user: UserPtr) -> Result {
    if !access.can_write() {
        return Err(EBADF);
    }
    let mut buffer = [0; command::MAX_SIZE];
    let argument = Argument::read(user, &mut buffer)?;
    let slots = command::structure::<uapi::uxive_range>(argument.bytes())?.count as usize;
    if file.context().kind() != ContextKind::Open || file.has_afu() {
        return Err(ENOTTY);
    }
    if slots == 0 || slots > MAX_RANGE {
        return Err(EINVAL);
    }

    let range = NewFile::new::<DeviceOperations, _, _>(c"[uxive-range]", access, |mapping| {
        let kind = ContextKind::Range(slots);
        let (device, user) = (file.device().clone(), file.context().user().clone());

        ContextFile::new(mapping, device, user, kind, None)
    })?;
    argument.write_field(offset_of!(uapi::uxive_range, fd), &(range.fd() as i32))?;
    range.install();
    Ok(())
}
