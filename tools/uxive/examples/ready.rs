// SPDX-License-Identifier: GPL-2.0 OR MIT

//! Waits for interrupts in `async` functions. An [`Event`] has a descriptor that is readable when
//! something was counted, and [`Event::wait`] with no time returns at once: an async runtime needs
//! no more. Here that is a small one of one thread, which needs only `poll()`. With tokio an
//! `AsyncFd` of `event.as_fd().as_raw_fd()` tells when to call `wait()`, and a [`Context`] or a
//! `Drain` is waited for in the same way.

use std::{
    cell::RefCell,
    future::Future,
    io,
    os::fd::{
        AsFd,
        AsRawFd, //
    },
    pin::Pin,
    task::{
        self,
        Poll,
        Waker, //
    },
    time::Duration, //
};
use uxive::{
    Context,
    Event, //
};

const TASKS: usize = 4;
const RINGS: usize = 1000;

/// The descriptors that tasks wait for.
#[derive(Default)]
struct Runtime(RefCell<Vec<libc::pollfd>>);

/// The count of an event, once there is one.
struct Counted<'a>(&'a Event, &'a Runtime);

impl Future for Counted<'_> {
    type Output = io::Result<u64>;

    fn poll(self: Pin<&mut Self>, _: &mut task::Context<'_>) -> Poll<Self::Output> {
        match self.0.wait(Some(Duration::ZERO)).transpose() {
            Some(count) => Poll::Ready(count),
            None => {
                self.1 .0.borrow_mut().push(libc::pollfd {
                    fd: self.0.as_fd().as_raw_fd(),
                    events: libc::POLLIN,
                    revents: 0,
                });
                Poll::Pending
            }
        }
    }
}

impl Runtime {
    /// Runs tasks until all are done, or one fails.
    fn run<T: Future<Output = io::Result<()>>>(&self, tasks: Vec<T>) -> io::Result<()> {
        let mut tasks: Vec<_> = tasks.into_iter().map(Box::pin).collect();
        let mut unused = task::Context::from_waker(Waker::noop());

        loop {
            let mut left = vec![];
            for mut task in tasks {
                match task.as_mut().poll(&mut unused) {
                    Poll::Ready(result) => result?,
                    Poll::Pending => left.push(task),
                }
            }
            if left.is_empty() {
                return Ok(());
            }
            tasks = left;
            let mut files = self.0.take();
            // SAFETY: There are that many entries, which the kernel writes.
            match unsafe { libc::poll(files.as_mut_ptr(), files.len() as _, 10_000) } {
                -1 => return Err(io::Error::last_os_error()),
                0 => return Err(io::ErrorKind::TimedOut.into()),
                _ => {}
            }
        }
    }
}

fn main() -> io::Result<()> {
    let context = Context::open()?;
    let runtime = Runtime::default();
    let mut bound = vec![];

    for _ in 0..TASKS {
        let (irq, event) = (context.alloc()?, Event::new()?);
        irq.bind(&event)?;
        bound.push((irq, event));
    }
    // Each task answers its ring by a ring of the next task, and the last one rings the first.
    let task = |index: usize| {
        let (bound, runtime) = (&bound, &runtime);
        async move {
            for _ in 0..RINGS {
                Counted(&bound[index].1, runtime).await?;
                bound[(index + 1) % TASKS].0.ring();
            }
            Ok(())
        }
    };

    bound[0].0.ring();
    runtime.run((0..TASKS).map(task).collect())?;
    println!("{TASKS} tasks of one thread, {RINGS} rings each");
    Ok(())
}
