// SPDX-License-Identifier: GPL-2.0

//! Pages of a driver in the user mappings of a file, which can be withdrawn.
//!
//! Would go to `rust/kernel/mm/mapping.rs`. The crate inserts a page at `mmap` only, and only one that
//! has a `struct page`; it has neither faults nor a way to withdraw a page from all mappings.
//!
//! All opens of a character device share the inode of its node, hence one `struct address_space`:
//! withdrawing an offset there withdraws it from every process that has the device open. A
//! [`FileMapping`] is an address space of its own for one open file: that of the file's inode if no
//! other file has it, else that of an inode which no file has. [`MappedPages`] are pages that
//! faults may place in certain ranges of it, and that no mapping reaches any more once they are
//! withdrawn or dropped: their owner need not remember to. A [`View`] shows some of them in another
//! file, from which they are withdrawn with the others, or when it is dropped. A mapping that is
//! [closed](FileMapping::close) has no pages any more, nor have those with a view of it.
//!
//! # Locks
//!
//! [`FileMapping::inserting`] is held by a fault, under the mmap or VMA lock, while the callback of the
//! driver inserts pages, which takes the driver's own locks. Closing the mapping takes nothing
//! under it, and does not take it under [`FileMapping::views`]: a driver may withdraw a view with a
//! lock held that faults wait for.
//!
//! [`FileMapping::views`] guards which views there are. Nothing is taken under it, pages are not
//! withdrawn and memory is not allocated: others who have a view wait for it.
//!
//! C headers: [`include/linux/mm.h`](srctree/include/linux/mm.h),
//! [`include/linux/fs.h`](srctree/include/linux/fs.h),
//! [`include/linux/anon_inodes.h`](srctree/include/linux/anon_inodes.h)

use super::{
    bindings as extra,
    fault::injectable, //
};
use core::{
    marker::PhantomData,
    ops::{
        Deref,
        Range, //
    },
    ptr::NonNull, //
};
use kernel::{
    bindings,
    error::from_err_ptr,
    ffi,
    new_mutex,
    page::{
        PAGE_SHIFT,
        PAGE_SIZE, //
    },
    prelude::*,
    rbtree::{
        RBTree,
        RBTreeNode, //
    },
    static_lock_class,
    sync::{
        atomic::{
            Atomic,
            Relaxed, //
        },
        poll::PollCondVarBox,
        Arc,
        Mutex,
        MutexGuard,
        SetOnce,
        UniqueArc, //
    }, //
};

/// The file system of anonymous inodes, which stays as long as the kernel.
#[derive(Clone, Copy)]
struct AnonFs(NonNull<bindings::super_block>);

// SAFETY: The superblock is the kernel's, and is nobody's in particular.
unsafe impl Send for AnonFs {}

// SAFETY: A shared reference gives its address only.
unsafe impl Sync for AnonFs {}

static ANON_FS: SetOnce<AnonFs> = SetOnce::new();

impl AnonFs {
    fn get() -> Result<Self> {
        match ANON_FS.copy() {
            Some(fs) => Ok(fs),
            None => Self::find(),
        }
    }

    /// Finds it by way of a file, which is the only way for a module.
    #[cold]
    fn find() -> Result<Self> {
        // SAFETY: The name is NUL-terminated, and the operations are the kernel's: a module that is
        // being loaded may be gone before the file, as that goes later than it is put.
        let file = from_err_ptr(unsafe {
            extra::anon_inode_getfile(
                c"[mapping]".as_char_ptr(),
                &raw const bindings::generic_ro_fops,
                core::ptr::null_mut(),
                bindings::O_RDONLY as ffi::c_int,
            )
        })?;
        // SAFETY: The file is valid, and so are its inode and the superblock of that.
        let superblock = unsafe { (*(*file).f_inode).i_sb };
        // SAFETY: The reference to the new file is ours.
        unsafe { bindings::fput(file) };
        let fs = Self(NonNull::new(superblock).ok_or(EINVAL)?);

        // Another thread may have entered it already: it is the same.
        ANON_FS.populate(fs);
        Ok(fs)
    }
}

/// A reference to an inode.
///
/// # Invariants
///
/// The pointer is valid, and the object owns a reference to the inode.
struct Inode(NonNull<bindings::inode>);

// SAFETY: Any thread may put a reference to an inode.
unsafe impl Send for Inode {}

// SAFETY: A shared reference gives its address only.
unsafe impl Sync for Inode {}

impl Inode {
    /// Makes one that no file has, for its address space.
    ///
    /// It is private: security modules do not look at it. There is nothing that a program could do
    /// with it.
    fn new_private() -> Result<Self> {
        let fs = AnonFs::get()?;
        let inode = injectable!(
            uxive_make_inode,
            ENOMEM,
            // SAFETY: The superblock is valid.
            from_err_ptr(unsafe { bindings::alloc_anon_inode(fs.0.as_ptr()) })
        )?;

        // INVARIANT: The reference to the new inode is passed on.
        Ok(Self(NonNull::new(inode).ok_or(EINVAL)?))
    }

    /// Returns that of `file`.
    ///
    /// # Safety
    ///
    /// `file` must be valid.
    unsafe fn of_file(file: NonNull<bindings::file>) -> Result<Self> {
        // SAFETY: By the contract of the function. A file does not change its inode.
        let inode = NonNull::new(unsafe { (*file.as_ptr()).f_inode }).ok_or(EINVAL)?;

        // SAFETY: The file has a reference to its inode.
        unsafe { bindings::ihold(inode.as_ptr()) };
        // INVARIANT: The reference was taken above.
        Ok(Self(inode))
    }

    fn address_space(&self) -> *mut bindings::address_space {
        // SAFETY: The inode is valid by the type invariants. Nobody changes the field.
        unsafe { (*self.0.as_ptr()).i_mapping }
    }
}

impl Drop for Inode {
    fn drop(&mut self) {
        // SAFETY: The reference is ours by the type invariants.
        unsafe { bindings::iput(self.0.as_ptr()) };
    }
}

/// The address space of one open file. Dropping the last reference may sleep.
#[pin_data]
pub(crate) struct FileMapping {
    /// Whose address space it is.
    inode: Inode,
    /// How many mappings the file has, if they are
    /// [limited](super::file::FileOperations::MAX_MAPPINGS).
    mappings: Atomic<usize>,
    /// Held while a fault inserts pages.
    #[pin]
    inserting: Mutex<()>,
    /// No fault that begins to insert pages after this was set does so.
    closed: Atomic<bool>,
    pollers: PollCondVarBox,
    /// Whether there has been a view. If there was none, withdrawing pages need not look for views.
    viewed: Atomic<bool>,
    /// The views, by their addresses.
    #[pin]
    views: Mutex<RBTree<usize, Arc<Shown>>>,
}

impl FileMapping {
    /// Has all ready for [`Self::new`], which then fails for want of memory only.
    ///
    /// # Errors
    ///
    /// `ENFILE` if there are as many open files as there may be, `ENOMEM` if there is no memory.
    pub(crate) fn prepare() -> Result {
        AnonFs::get()?;
        Ok(())
    }

    /// Creates an address space with no pages in it, for a file that shares its inode with others.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    pub(crate) fn new() -> Result<Arc<Self>> {
        Self::of_inode(Inode::new_private()?)
    }

    /// Returns the address space of `file`. No other file must have the inode.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory.
    ///
    /// # Safety
    ///
    /// `file` must be valid.
    pub(super) unsafe fn of_file(file: NonNull<bindings::file>) -> Result<Arc<Self>> {
        // SAFETY: By the contract of the function.
        Self::of_inode(unsafe { Inode::of_file(file) }?)
    }

    fn of_inode(inode: Inode) -> Result<Arc<Self>> {
        let pollers = PollCondVarBox::new(c"file_pollers", static_lock_class!())?;

        Arc::pin_init(
            pin_init!(Self {
                inode,
                mappings: Atomic::new(0),
                inserting <- new_mutex!((), "file_inserting"),
                closed: Atomic::new(false),
                pollers,
                viewed: Atomic::new(false),
                views <- new_mutex!(RBTree::new(), "file_views"),
            }),
            GFP_KERNEL_ACCOUNT,
        )
    }

    /// Returns the address space, which is valid as long as `self`.
    pub(super) fn as_raw(&self) -> *mut bindings::address_space {
        self.inode.address_space()
    }

    /// Counts a mapping more if there are fewer than `limit`. Returns whether there were.
    pub(super) fn try_add_mapping(&self, limit: usize) -> bool {
        let mut count = self.mappings.load(Relaxed);

        while count < limit {
            match self.mappings.cmpxchg(count, count + 1, Relaxed) {
                Ok(_) => return true,
                Err(now) => count = now,
            }
        }
        false
    }

    /// Returns whether there are fewer mappings than `limit`.
    pub(super) fn has_room(&self, limit: usize) -> bool {
        self.mappings.load(Relaxed) < limit
    }

    /// Counts a mapping that the kernel has made of another, whatever the limit.
    pub(super) fn add_mapping(&self) {
        self.mappings.add(1, Relaxed);
    }

    /// Counts a mapping less.
    pub(super) fn remove_mapping(&self) {
        self.mappings.fetch_sub(1, Relaxed);
    }

    pub(crate) fn pollers(&self) -> &PollCondVarBox {
        &self.pollers
    }

    /// Stops faults from inserting pages in it, and in files with a view of it. May sleep.
    pub(crate) fn begin_close(&self) {
        self.with_views(|mapping| {
            let _inserting = mapping.inserting.lock();

            mapping.closed.store(true, Relaxed);
        });
    }

    /// Closes it, and those of the files with a view of it: when this returns, no page is mapped in
    /// any process, and none ever will be. Then wakes the pollers of these files. May sleep.
    pub(crate) fn close(&self) {
        self.begin_close();
        self.with_views(|mapping| {
            mapping.zap_own();
            mapping.pollers.notify_all();
        });
    }

    /// Calls `what` for it and for each file with a view of it. A view that comes meanwhile may be left
    /// out.
    fn with_views(&self, what: impl Fn(&Self)) {
        what(self);
        self.each_view(|_| true, |view| what(&view.mapping));
    }

    /// Calls `what` for each view of it that is `wanted`. A view that comes meanwhile may be left out.
    fn each_view(&self, wanted: impl Fn(&Shown) -> bool, what: impl Fn(&Shown)) {
        // One by one, see the head of this file.
        let mut from = Some(0);
        while let Some((key, view)) = from.and_then(|from| self.view_from(from, &wanted)) {
            what(&view);
            from = key.checked_add(1);
        }
    }

    /// Returns whether it is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Relaxed)
    }

    /// Keeps it from being closed while the guard is held. Returns `None` if it is closed.
    pub(super) fn keep_open(&self) -> Option<MutexGuard<'_, ()>> {
        let inserting = self.inserting.lock();

        (!self.is_closed()).then_some(inserting)
    }

    /// Returns the first view of the file from `key` on that is `wanted`, with its key.
    fn view_from(
        &self,
        key: usize,
        wanted: impl Fn(&Shown) -> bool,
    ) -> Option<(usize, Arc<Shown>)> {
        let mut views = self.views.lock();
        let mut cursor = views.cursor_lower_bound_mut(&key)?;

        loop {
            let (&key, shown) = cursor.current();
            if wanted(shown) {
                return Some((key, shown.clone()));
            }
            cursor = cursor.move_next()?;
        }
    }

    /// Removes all pages from every mapping of the file in every process. May sleep.
    fn zap_own(&self) {
        // SAFETY: The address space is valid. No length means all of it.
        unsafe { bindings::unmap_mapping_range(self.as_raw(), 0, 0, 1) };
    }

    /// As [`Self::zap`], of the ranges that are not empty, and in the files with a view of them.
    fn zap_each<const N: usize>(&self, ranges: [Range<u64>; N]) {
        if self.is_viewed() {
            self.each_view(
                |view| view.covers(&ranges),
                |view| ranges.iter().for_each(|range| view.zap(range)),
            );
        }
        for range in ranges.into_iter().filter(|range| !range.is_empty()) {
            self.zap(range);
        }
    }

    /// Returns how many bytes of pages are removed at a time from the files with a view of it.
    #[cold]
    #[inline(never)]
    fn most_at_once(&self) -> u64 {
        let views = self.views.lock();

        views
            .values()
            .map(|view| view.most_at_once())
            .min()
            .unwrap_or(u64::MAX)
    }

    /// Has no view show the pages in `ranges` any more. They are mapped there until they are zapped.
    #[cold]
    #[inline(never)]
    fn hide(&self, ranges: &[Range<u64>]) {
        for view in self.views.lock().values() {
            ranges.iter().for_each(|range| view.hide(range));
        }
    }

    /// Removes the pages in `range`, which is not empty, from every mapping of the file, in every
    /// process.
    ///
    /// When this returns, no CPU reaches them through such a mapping. May sleep.
    fn zap(&self, range: Range<u64>) {
        let (start, len) = (range.start as i64, (range.end - range.start) as i64);

        // SAFETY: The address space is valid. The function copes with any range; where one exceeds
        // `loff_t` there are no mappings.
        unsafe { bindings::unmap_mapping_range(self.as_raw(), start, len, 1) };
    }

    /// Returns whether there has been a view of it.
    #[inline(always)]
    fn is_viewed(&self) -> bool {
        // As `load(Relaxed)`, which is a call: that of a helper of the kernel crate in C.
        //
        // SAFETY: The pointer is that of the field. It is written with `WRITE_ONCE` only, and this is
        // `READ_ONCE` of one byte, so there is no data race.
        unsafe { self.viewed.as_ptr().read_volatile() }
    }

    /// Drops it. Not inline, as withdrawing pages seldom comes here.
    #[cold]
    #[inline(never)]
    fn drop_last(last: Pin<UniqueArc<Self>>) {
        drop(last);
    }

    /// As [`Self::zap`] of each of `ranges`, but in the files with a view of them, where they are not
    /// shown any more.
    #[cold]
    #[inline(never)]
    fn withdraw_from_views(&self, ranges: &[Range<u64>]) {
        self.each_view(
            |view| view.covers(ranges),
            |view| {
                for range in ranges {
                    view.hide(range);
                    view.zap(range);
                }
            },
        );
    }
}

/// A part of a file, the host, that is shown in another file.
struct Shown {
    /// The address space of the other file.
    mapping: Arc<FileMapping>,
    /// The part of the host, which the other file has from offset 0 on.
    range: Range<u64>,
    /// The size of a piece.
    stride: u64,
    /// Which pieces are shown.
    pieces: KVVec<Atomic<bool>>,
}

impl Shown {
    /// Returns the piece that the byte at `offset` of the other file is in.
    fn piece(&self, offset: u64) -> Option<&Atomic<bool>> {
        self.pieces.get((offset / self.stride) as usize)
    }

    /// Returns how many bytes of pages are removed at a time, at least one piece.
    fn most_at_once(&self) -> u64 {
        let mappings = self.mapping.mappings.load(Relaxed).max(1);
        let most = (MOST_PAGES / mappings).saturating_sub(PAGES_OF_MAPPING);

        self.stride.saturating_mul(most.max(1) as u64)
    }

    /// Returns the part of `range` of the host that it covers, as a part of the other file.
    fn part(&self, range: &Range<u64>) -> Option<Range<u64>> {
        let start = range.start.max(self.range.start);
        let end = range.end.min(self.range.end);

        (start < end).then(|| start - self.range.start..end - self.range.start)
    }

    /// Returns whether it covers a part of one of `ranges` of the host.
    fn covers(&self, ranges: &[Range<u64>]) -> bool {
        ranges.iter().any(|range| self.part(range).is_some())
    }

    /// Shows `range` of the host no more. Pages of that stay mapped until they are zapped.
    fn hide(&self, range: &Range<u64>) {
        let Some(here) = self.part(range) else {
            return;
        };
        let first = (here.start / self.stride) as usize;
        let last = here.end.div_ceil(self.stride) as usize;

        for piece in self.pieces.iter().take(last).skip(first) {
            piece.store(false, Relaxed);
        }
    }

    /// Removes `range` of the host from every mapping of the other file.
    fn zap(&self, range: &Range<u64>) {
        if let Some(here) = self.part(range) {
            self.mapping.zap(here);
        }
    }
}

/// How many pages, of all mappings together, are removed at a time from the mappings of another file:
/// its processes cannot change these meanwhile.
const MOST_PAGES: usize = 1600;

/// How many pages could be removed in the time that finding one mapping takes.
const PAGES_OF_MAPPING: usize = 8;

/// Pages of a file in the user mappings of another.
///
/// A view shows pages, not places: pages that take the place of withdrawn ones are not shown.
/// Dropping it removes all pages from every mapping of the other file. May sleep.
///
/// # Invariants
///
/// `shown` is in `host.views`.
pub(crate) struct View {
    host: Arc<FileMapping>,
    shown: Arc<Shown>,
    is_withdrawn: bool,
}

impl View {
    /// Makes one of `range` of `host` in `mapping`, from offset 0 on there, which shows nothing yet.
    ///
    /// It consists of pieces of `stride` bytes, to be shown one by one. All are in bytes, multiples of
    /// the page size, and `stride` is not 0.
    ///
    /// # Errors
    ///
    /// `ENOMEM` if there is no memory, `EINVAL` if `range` does not consist of pieces, `ENODEV` if `host`
    /// is closed.
    pub(crate) fn new(
        host: Arc<FileMapping>,
        mapping: Arc<FileMapping>,
        range: Range<u64>,
        stride: u64,
    ) -> Result<Self> {
        let len = range.end.checked_sub(range.start).ok_or(EINVAL)?;
        if stride == 0 || len % stride != 0 || (range.start | stride) % PAGE_SIZE as u64 != 0 {
            return Err(EINVAL);
        }
        let count = (len / stride) as usize;
        let mut pieces = KVVec::with_capacity(count, GFP_KERNEL_ACCOUNT | __GFP_NOWARN)?;
        for _ in 0..count {
            pieces.push_within_capacity(Atomic::new(false))?;
        }
        let shown = Arc::new(
            Shown {
                mapping,
                range,
                stride,
                pieces,
            },
            GFP_KERNEL_ACCOUNT,
        )?;
        let node = RBTreeNode::new(Self::key(&shown), shown.clone(), GFP_KERNEL_ACCOUNT)?;

        host.views.lock().insert(node);
        host.viewed.store(true, Relaxed);
        // INVARIANT: Entered above.
        let view = Self {
            host,
            shown,
            is_withdrawn: false,
        };
        // Checked after the view was entered: a close that comes later finds the view.
        match view.host.is_closed() {
            true => Err(ENODEV),
            false => Ok(view),
        }
    }

    /// Returns whether the host is closed.
    pub(crate) fn is_closed(&self) -> bool {
        self.host.is_closed()
    }

    fn key(shown: &Arc<Shown>) -> usize {
        Arc::as_ptr(shown).addr()
    }

    /// Shows the piece that `pages` are in, until they are withdrawn.
    ///
    /// # Errors
    ///
    /// `EINVAL` if they are in none.
    pub(crate) fn show<P: UserPages, const N: usize>(&self, pages: &MappedPages<P, N>) -> Result {
        self.piece_of(pages).ok_or(EINVAL)?.store(true, Relaxed);
        Ok(())
    }

    /// Returns whether the piece that `pages` are in is shown.
    pub(crate) fn shows<P: UserPages, const N: usize>(&self, pages: &MappedPages<P, N>) -> bool {
        self.piece_of(pages)
            .is_some_and(|piece| piece.load(Relaxed))
    }

    fn piece_of<P: UserPages, const N: usize>(
        &self,
        pages: &MappedPages<P, N>,
    ) -> Option<&Atomic<bool>> {
        let is_host = |mapping| Arc::ptr_eq(mapping, &self.host);
        let Shown { range, .. } = &*self.shown;
        let place = (pages.ranges.iter().filter(|range| !range.is_empty()))
            .find(|place| range.contains(&place.start))
            .filter(|_| pages.mapping.as_ref().is_some_and(is_host))?;

        self.shown.piece(place.start - range.start)
    }

    /// Removes all pages from every mapping of the other file, where none comes any more. May sleep.
    pub(crate) fn withdraw(&mut self) {
        let Shown { mapping, range, .. } = &*self.shown;
        let len = range.end - range.start;
        let most = self.shown.most_at_once();

        for start in (0..len).step_by(most as usize) {
            mapping.zap(start..len.min(start + most));
        }
        self.is_withdrawn = true;
    }

    /// Places the page of `pages` that belongs at `offset` of the other file there, if it is shown and
    /// the mapping that faulted covers that. As [`Fault::insert`] otherwise.
    pub(crate) fn insert<P: UserPages, const N: usize>(
        &self,
        fault: &Fault<'_>,
        pages: &MappedPages<P, N>,
        offset: u64,
    ) -> FaultResult {
        let Shown { mapping, range, .. } = &*self.shown;
        let at = match range.start.checked_add(offset) {
            Some(at) if range.contains(&at) => at,
            _ => return FaultResult::SIGBUS,
        };
        let is_shown = (self.shown.piece(offset)).is_some_and(|piece| piece.load(Relaxed));
        let phys = match (pages.phys_at(at), &pages.mapping) {
            (Some(phys), Some(host))
                if is_shown
                    && !self.is_withdrawn
                    && Arc::ptr_eq(host, &self.host)
                    && fault.mapping == mapping.as_raw() =>
            {
                phys
            }
            _ => return FaultResult::SIGBUS,
        };

        // SAFETY: By the contract of `UserPages` the page is owned by `pages` and of the kind that
        // is told. It is in a range of `pages`, and inserted at its place in a view that is in the
        // list of their mapping, and stays there as long as `self` is borrowed: from there it is
        // removed when they are withdrawn, or before when the view is dropped.
        unsafe { fault.insert_page(phys, offset, P::DEVICE) }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        // A fault that inserts a page borrows the object, so none is under way. The view stays in
        // the list until its pages are zapped, since withdrawing a page must not finish before
        // that.
        if !self.is_withdrawn {
            self.withdraw();
        }

        let node = (self.host.views.lock()).remove_node(&Self::key(&self.shown));
        drop(node);
    }
}

/// Contiguous pages that may be shown to user space.
///
/// # Safety
///
/// [`Self::phys`] and [`Self::len`] return the same at every call: the page-aligned physical address
/// and the size in bytes of device memory if [`Self::DEVICE`], else of ordinary memory of the
/// kernel. The object owns that memory until it is dropped: it does not serve another purpose before
/// that.
pub(crate) unsafe trait UserPages {
    /// Whether the pages are device memory, which is mapped uncached.
    const DEVICE: bool;

    /// Returns the physical address of the first page.
    fn phys(&self) -> u64;

    /// Returns the size in bytes, a multiple of the page size.
    fn len(&self) -> u64;
}

/// Pages that faults may place in certain ranges of a [`FileMapping`].
///
/// Each range shows them from the first one on, as far as it goes. Dropping the object withdraws
/// them from all mappings, and drops them after that. May sleep.
///
/// # Invariants
///
/// Page tables of mappings of the file have the pages only in the ranges, at their places there.
/// Page tables of other files' mappings have them only at the place that such a range has in a
/// [`View`] that is in the list of `mapping`.
pub(crate) struct MappedPages<P: UserPages, const N: usize> {
    // Dropped after `Drop::drop` has withdrawn them.
    pages: P,
    /// Until they are withdrawn.
    mapping: Option<Arc<FileMapping>>,
    ranges: [Range<u64>; N],
}

impl<P: UserPages, const N: usize> MappedPages<P, N> {
    /// Offers `pages` in `ranges`, in bytes, of `mapping`. A range may be empty.
    pub(crate) fn new(pages: P, mapping: Arc<FileMapping>, ranges: [Range<u64>; N]) -> Self {
        // INVARIANT: No page has been inserted anywhere, since that takes a `MappedPages`, which
        // owns the page.
        Self {
            pages,
            mapping: Some(mapping),
            ranges,
        }
    }

    /// Removes the pages from every mapping of the file, in every process.
    ///
    /// When this returns, no CPU reaches them through such a mapping, faults insert them no more,
    /// and the object does not refer to the mapping, nor by it to the module. May sleep.
    #[inline(always)]
    pub(crate) fn withdraw(&mut self) {
        let Some(mapping) = self.mapping.take() else {
            return;
        };

        // A fault that inserts a page borrows this object, as does a call that makes a view show
        // it. So neither is under way.
        if mapping.is_viewed() {
            mapping.withdraw_from_views(&self.ranges);
        }
        for range in &mut self.ranges {
            if !range.is_empty() {
                mapping.zap(core::mem::take(range));
            }
        }
        // Like `drop()`, but inline unless the reference is the last.
        if let Some(last) = Arc::into_unique_or_drop(mapping) {
            FileMapping::drop_last(last);
        }
    }

    /// As [`Self::withdraw`], of many. Those in one mapping are zapped together, there and in each
    /// view: pages between them go as well, and come back when they are touched.
    pub(crate) fn withdraw_many<'a>(all: impl Iterator<Item = &'a mut Self>)
    where
        P: 'a,
    {
        let mut withdrawal: Option<Withdrawal<N>> = None;

        // None of them can be used otherwise until this returns, as `'a` is not over before.
        for pages in all {
            let Some(mapping) = pages.mapping.take() else {
                continue;
            };
            let ranges = core::mem::replace(&mut pages.ranges, [const { 0..0 }; N]);

            match &mut withdrawal {
                Some(withdrawal)
                    if Arc::ptr_eq(&withdrawal.mapping, &mapping)
                        && withdrawal.has_room(&ranges) =>
                {
                    withdrawal.add(ranges);
                }
                _ => {
                    let next = Withdrawal::new(mapping, ranges);
                    if let Some(withdrawal) = withdrawal.replace(next) {
                        withdrawal.finish();
                    }
                }
            }
        }
        if let Some(withdrawal) = withdrawal {
            withdrawal.finish();
        }
    }

    /// Returns the physical address of the page that belongs at `offset`, if one does.
    fn phys_at(&self, offset: u64) -> Option<u64> {
        let range = self.ranges.iter().find(|range| range.contains(&offset))?;
        let within = offset - range.start;

        (within < self.pages.len() && (offset | within) % PAGE_SIZE as u64 == 0)
            .then(|| self.pages.phys() + within)
    }
}

/// A withdrawal of many pages of one mapping.
struct Withdrawal<const N: usize> {
    mapping: Arc<FileMapping>,
    /// The last of them that lie side by side.
    run: [Range<u64>; N],
    /// Those before, which no view shows any more, and all that lies between them.
    span: [Range<u64>; N],
    /// How many bytes from the first to the last of them there may be.
    most: u64,
}

impl<const N: usize> Withdrawal<N> {
    fn new(mapping: Arc<FileMapping>, run: [Range<u64>; N]) -> Self {
        let most = match mapping.is_viewed() {
            true => mapping.most_at_once(),
            false => u64::MAX,
        };

        Self {
            mapping,
            run,
            span: [const { 0..0 }; N],
            most,
        }
    }

    /// Returns whether those in `ranges` lie near enough to be removed at the same time.
    fn has_room(&self, ranges: &[Range<u64>; N]) -> bool {
        let mut all = self.span.iter().zip(&self.run).zip(ranges);

        all.all(|((span, run), next)| {
            let start = match span.is_empty() {
                true => run.start,
                false => span.start,
            };
            next.is_empty() || next.end.saturating_sub(start) <= self.most
        })
    }

    /// Adds pages in `ranges`.
    fn add(&mut self, ranges: [Range<u64>; N]) {
        let mut both = self.run.iter().zip(&ranges);

        if both.all(|(run, next)| run.end == next.start) {
            for (run, next) in self.run.iter_mut().zip(ranges) {
                run.end = next.end;
            }
        } else {
            self.end_run();
            self.run = ranges;
        }
    }

    fn end_run(&mut self) {
        // Exactly: the pages between may be shown.
        if self.mapping.is_viewed() {
            self.mapping.hide(&self.run);
        }
        for (span, run) in self.span.iter_mut().zip(&self.run) {
            if span.is_empty() {
                *span = run.clone();
            } else if !run.is_empty() {
                *span = span.start.min(run.start)..span.end.max(run.end);
            }
        }
    }

    fn finish(mut self) {
        self.end_run();
        self.mapping.zap_each(self.span);
    }
}

impl<P: UserPages, const N: usize> Deref for MappedPages<P, N> {
    type Target = P;

    fn deref(&self) -> &P {
        &self.pages
    }
}

impl<P: UserPages, const N: usize> MappedPages<P, N> {
    /// Withdraws them as the last thing.
    #[cold]
    #[inline(never)]
    fn withdraw_late(&mut self) {
        self.withdraw();
    }
}

impl<P: UserPages, const N: usize> Drop for MappedPages<P, N> {
    #[inline(always)]
    fn drop(&mut self) {
        if self.mapping.is_some() {
            self.withdraw_late();
        }
    }
}

/// A page fault in a mapping of a file.
///
/// # Invariants
///
/// The fault is under way. Its VMA, `vma`, was set up by [`super::file`]: it is shared, maps page
/// frames and belongs to a file whose address space is `mapping`. It begins at the address `start`,
/// and maps `covered` of the file.
pub(crate) struct Fault<'a> {
    vma: NonNull<bindings::vm_area_struct>,
    mapping: *mut bindings::address_space,
    start: usize,
    covered: Range<u64>,
    offset: u64,
    _callback: PhantomData<&'a mut bindings::vm_fault>,
}

impl Fault<'_> {
    /// # Safety
    ///
    /// `vmf` must be the argument of a `fault` callback that does not return as long as the object
    /// lives, and its VMA as the type invariants demand.
    pub(super) unsafe fn from_raw(vmf: NonNull<bindings::vm_fault>) -> Self {
        // SAFETY: The fault, its VMA and the file of that are valid by the contract of the function.
        let (vma, range, pgoff, touched, mapping) = unsafe {
            let fault = vmf.as_ref().__bindgen_anon_1;
            let vma = NonNull::new_unchecked(fault.vma);
            let area = vma.as_ref();
            (
                vma,
                area.__bindgen_anon_1.__bindgen_anon_1,
                area.vm_pgoff,
                fault.pgoff,
                (*area.vm_file).f_mapping,
            )
        };
        // None of these overflows: mmap() refuses ranges that end beyond `loff_t`.
        let first = (pgoff as u64) << PAGE_SHIFT;
        let len = (range.vm_end - range.vm_start) as u64;

        // INVARIANT: The caller promises them.
        Self {
            vma,
            mapping,
            start: range.vm_start,
            covered: first..first + len,
            offset: (touched as u64) << PAGE_SHIFT,
            _callback: PhantomData,
        }
    }

    /// Returns the offset in the file of the page that was touched, in bytes.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }

    /// Returns the offsets in the file that the mapping covers, in bytes.
    pub(crate) fn covered(&self) -> Range<u64> {
        self.covered.clone()
    }

    /// Places the page of `pages` that belongs at `offset` there, if the mapping covers that: the
    /// page that was touched, or one around it that is likely to be touched next.
    ///
    /// May sleep to allocate page tables. The caller's reference to `pages` keeps them from being
    /// withdrawn meanwhile. As a rule it is borrowed from the guard of a lock that freeing takes
    /// too.
    #[inline(always)]
    pub(crate) fn insert<P: UserPages, const N: usize>(
        &self,
        pages: &MappedPages<P, N>,
        offset: u64,
    ) -> FaultResult {
        let phys = match (pages.phys_at(offset), &pages.mapping) {
            (Some(phys), Some(mapping)) if self.mapping == mapping.as_raw() => phys,
            _ => return FaultResult::SIGBUS,
        };

        // SAFETY: By the contract of `UserPages` the page is owned by `pages` and of the kind that
        // is told. It is inserted in a range of `pages`, at the one place there from which
        // withdrawing removes it, in a mapping of the address space in which that is done.
        unsafe { self.insert_page(phys, offset, P::DEVICE) }
    }

    /// Places the page at the physical address `phys` at `offset`, a multiple of the page size, if
    /// the mapping covers that. `device` says whether it is memory of a device. May sleep to
    /// allocate page tables.
    ///
    /// # Safety
    ///
    /// The page must be of that kind. Before it serves another purpose, it must be removed from all
    /// mappings at `offset` in the address space of the file, after this call returned.
    #[inline]
    pub(super) unsafe fn insert_page(&self, phys: u64, offset: u64, device: bool) -> FaultResult {
        if !self.covered.contains(&offset) {
            return FaultResult::SIGBUS;
        }
        let address = self.start + (offset - self.covered.start) as usize;

        // SAFETY: The VMA is valid, by the type invariants it maps page frames and is not
        // copy-on-write, and `address` lies in it. The caller vouches for the page. The VMA is in
        // the address space already, as faults come only after mmap() returned, so that removing
        // the page from there will find it.
        FaultResult(unsafe {
            extra::uxive_vmf_insert_pfn(
                self.vma.as_ptr(),
                address,
                (phys >> PAGE_SHIFT) as usize,
                device,
            )
        })
    }
}

/// The result of a page fault.
#[derive(Clone, Copy)]
pub(crate) struct FaultResult(bindings::vm_fault_t);

impl FaultResult {
    /// There is no page: the program gets `SIGBUS`, a system call that touched it `EFAULT`.
    pub(crate) const SIGBUS: Self = Self(bindings::vm_fault_reason_VM_FAULT_SIGBUS);

    /// Returns whether there was no memory for a page table: others would fail for that, too.
    #[inline]
    pub(crate) fn is_oom(self) -> bool {
        self.0 & bindings::vm_fault_reason_VM_FAULT_OOM != 0
    }

    /// Returns the value for the C side.
    pub(crate) fn into_raw(self) -> bindings::vm_fault_t {
        self.0
    }
}
