// SPDX-License-Identifier: GPL-2.0 OR MIT

//! `uxive bench`: how long a ring takes to arrive, as a histogram.

use crate::{
    arguments::number,
    failed,
    open,
    text::escaped,
    Failure,
    Outcome, //
};
use core::time::Duration;
use lexopt::{
    Arg::{
        Long,
        Short, //
    },
    Parser, //
};
use std::{
    fmt::Write,
    fs,
    io,
    thread::available_parallelism,
    time::Instant, //
};
use uxive::Event;

pub(crate) const HELP: &str = "\
NAME
    uxive bench - measure how long a ring takes to arrive

SYNOPSIS
    uxive bench [--rings N]

DESCRIPTION
    Rings an interrupt, one ring after the other, and measures from before the
    store to the return of read() of its eventfd, in one thread that runs on
    whatever CPU the kernel has it run. Shows how many rings took how long.

    It is wall-clock time, with all that else went on in the machine. On an
    emulated machine it is that of the emulation and says nothing of hardware;
    make bench of the source tree counts instructions instead.

OPTIONS
    --rings N  how many rings are measured, 10000 by default

EXIT STATUS
    0  done
    1  the driver is not usable, or a ring did not arrive within 10 seconds
    2  this is no way to call it
";

const RINGS: u32 = 10_000;

/// Unmeasured rings at the start, which map pages and read code.
const WARM_UP: u32 = 100;

const WATCHDOG: Duration = Duration::from_secs(10);

pub(crate) fn run(arguments: &mut Parser) -> Outcome {
    let mut rings = RINGS;

    while let Some(argument) = arguments.next()? {
        match argument {
            Short('h') | Long("help") => return Ok(HELP.into()),
            Long("rings") => rings = number("--rings", arguments, 1..=100_000_000)?,
            _ => return Err(argument.unexpected().into()),
        }
    }
    let times = measure(rings)?;

    Ok(format!(
        "{} rings, from the store to the return of read() of the eventfd, one after the other\n\
         wall-clock time of {}\n\n{}",
        times.len(),
        machine(),
        histogram(times)
    ))
}

const ENFILE: i32 = 23;
const ENOSPC: i32 = 28;
const EDQUOT: i32 = 122;

fn none(cause: &str) -> Failure {
    Failure::Failed(format!("there is no interrupt: {cause}"))
}

/// Returns how long each ring took, in nanoseconds.
fn measure(rings: u32) -> Result<Vec<u64>, Failure> {
    let context = open()?;
    let set_up = || -> io::Result<_> {
        let (irq, event) = (context.alloc()?, Event::new()?);
        irq.bind(&event)?;
        Ok((irq, event))
    };
    let (irq, event) = set_up().map_err(|error| match error.raw_os_error() {
        Some(ENOSPC) => none("the machine, or this driver's part of it, has none left"),
        Some(EDQUOT) => none("this user is at a limit, see uxive info"),
        Some(ENFILE) => none("all users together are at a limit, see uxive info"),
        _ => failed("an interrupt", error),
    })?;
    let mut times = vec![];

    for ring in 0..WARM_UP + rings {
        let begun = Instant::now();

        irq.ring();
        let arrived = event
            .wait(Some(WATCHDOG))
            .map_err(|error| failed("the eventfd", error))?;
        let time = begun.elapsed();
        if arrived.is_none() {
            return Err(Failure::Failed(format!("ring {ring} did not arrive")));
        }
        if ring >= WARM_UP {
            times.push(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        }
    }
    Ok(times)
}

/// Returns the machine's name for itself.
fn machine() -> String {
    let read = |path: &str| fs::read(path).unwrap_or_default();
    let tree = |name| read(&format!("/proc/device-tree/{name}"));
    let cpus = available_parallelism().map_or(0, usize::from);
    let emulated = if tree("compatible").windows(4).any(|part| part == b"qemu") {
        "\nThat is an emulated machine: these times are those of the emulation."
    } else {
        ""
    };

    format!(
        "{}, {}, {cpus} CPUs, Linux {}{emulated}",
        model(&tree("model")),
        cpu(&read("/proc/cpuinfo")),
        escaped(read("/proc/sys/kernel/osrelease").trim_ascii())
    )
}

/// Returns the model that the device tree has: one string or several, each with a 0 behind it.
fn model(property: &[u8]) -> String {
    let words: Vec<_> = property
        .split(|&byte| byte == 0)
        .map(<[u8]>::trim_ascii)
        .filter(|part| !part.is_empty())
        .map(escaped)
        .collect();

    match words.as_slice() {
        [] => "an unknown machine".into(),
        words => words.join(" "),
    }
}

/// Returns the name of the first CPU in what `/proc/cpuinfo` says.
fn cpu(cpuinfo: &[u8]) -> String {
    cpuinfo
        .split(|&byte| byte == b'\n')
        .find_map(|line| {
            line.strip_prefix(b"cpu")?
                .trim_ascii_start()
                .strip_prefix(b":")
        })
        .map_or("unknown CPU".into(), |name| escaped(name.trim_ascii()))
}

/// Returns the bucket of a time: two for each doubling.
fn bucket(time: u64) -> usize {
    let power = time.max(1).ilog2();
    let half = u64::from(power > 0 && time >> (power - 1) & 1 == 1);

    (u64::from(power) * 2 + half) as usize
}

/// Returns the least time of a bucket.
fn least(bucket: usize) -> u64 {
    let power = 1u64 << (bucket / 2);

    power + if bucket % 2 == 1 { power / 2 } else { 0 }
}

/// Returns the time that so many of a thousand did not exceed. `sorted` is not empty.
fn quantile(sorted: &[u64], thousandth: usize) -> u64 {
    let at = (sorted.len() * thousandth).div_ceil(1000).max(1) - 1;

    sorted[at]
}

fn histogram(mut times: Vec<u64>) -> String {
    const WIDTH: usize = 50;
    let mut counts = [0usize; 128];
    let mut text = format!("{:>12}{:>10}\n", "from ns", "rings");

    times.sort_unstable();
    for &time in &times {
        counts[bucket(time)] += 1;
    }
    let most = counts.iter().copied().max().unwrap_or(0).max(1);
    let first = counts.iter().position(|&count| count > 0).unwrap_or(0);
    let last = counts.iter().rposition(|&count| count > 0).unwrap_or(0);
    for (bucket, &count) in counts.iter().enumerate().take(last + 1).skip(first) {
        // A small count still shows.
        let bar = "#".repeat((count * WIDTH).div_ceil(most));
        let line = format!("{:>12}{count:>10}  {bar}", least(bucket));
        text += line.trim_end();
        text += "\n";
    }
    text += "\n";
    for (name, thousandth) in [
        ("least", 0),
        ("median", 500),
        ("90 %", 900),
        ("99 %", 990),
        ("99.9 %", 999),
        ("most", 1000),
    ] {
        let _ = writeln!(text, "{name:>12}{:>10} ns", quantile(&times, thousandth));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_machine_is_called_is_shown_escaped() {
        assert_eq!(
            model(b"IBM PowerNV\0emulated by qemu\0"),
            "IBM PowerNV emulated by qemu"
        );
        assert_eq!(model(b"\x1b[2J\xff\n\0"), r"\x1b[2J\xff");
        assert_eq!(model(b""), "an unknown machine");
        let cpuinfo = b"processor\t: 0\ncpu\t\t: POWER9 \x07\xff\nclock\t: 1\n";
        assert_eq!(cpu(cpuinfo), r"POWER9 \x07\xff");
        assert_eq!(cpu(b"processor\t: 0\n"), "unknown CPU");
    }

    #[test]
    fn buckets_begin_where_they_say() {
        for bucket_index in 2..127 {
            assert_eq!(bucket(least(bucket_index)), bucket_index);
            assert_eq!(bucket(least(bucket_index + 1) - 1), bucket_index);
        }
        assert_eq!(bucket(0), 0);
        assert_eq!(bucket(1), 0);
        assert_eq!(bucket(u64::MAX), 127);
    }

    #[test]
    fn quantiles_are_times_that_were_measured() {
        let times: Vec<_> = (1..=2000).collect();

        assert_eq!(quantile(&times, 0), 1);
        assert_eq!(quantile(&times, 500), 1000);
        assert_eq!(quantile(&times, 999), 1998);
        assert_eq!(quantile(&times, 1000), 2000);
        assert_eq!(quantile(&[7], 990), 7);
    }

    #[test]
    fn each_ring_is_in_the_histogram() {
        let text = histogram(vec![1024, 1024, 1535, 1536, 4096]);
        let rows: Vec<Vec<_>> = text
            .lines()
            .map(|line| line.split_whitespace().collect())
            .collect();

        assert_eq!(rows[1][..2], ["1024", "3"]);
        assert_eq!(rows[1][2].len(), 50);
        assert_eq!(rows[2][..2], ["1536", "1"]);
        assert_eq!(rows[2][2].len(), 17);
        assert_eq!(rows[3][..], ["2048", "0"]);
        assert_eq!(rows[5][..2], ["4096", "1"]);
        assert_eq!(rows[6].len(), 0);
        assert_eq!(rows[7], ["least", "1024", "ns"]);
        assert_eq!(rows[12], ["most", "4096", "ns"]);
    }
}
