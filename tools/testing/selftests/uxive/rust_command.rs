// SPDX-License-Identifier: GPL-2.0

//! Promise: the command `uxive` shows the driver's state, rings doorbells, and reports failures in
//! words and by its status. The examples run, in C and in Rust.

mod ktap;

use rustix::{
    io::{
        fcntl_setfd,
        FdFlags, //
    },
    net::{
        sendmsg,
        SendAncillaryBuffer,
        SendAncillaryMessage,
        SendFlags, //
    }, //
};
use std::{
    env,
    ffi::OsStr,
    fs::{
        self,
        OpenOptions, //
    },
    io::{
        self,
        IoSlice,
        Read,
        Write, //
    },
    os::{
        fd::{
            AsFd,
            AsRawFd,
            BorrowedFd, //
        },
        unix::{
            ffi::OsStrExt,
            net::{
                UnixListener,
                UnixStream, //
            }, //
        }, //
    },
    process::{
        self,
        Child,
        Command,
        ExitCode,
        Stdio, //
    },
    thread,
    time::Duration, //
};
use uxive::{
    Batch,
    Context,
    Event,
    Irqs,
    Usage,
    Which, //
};

/// The argument with which this program is one that holds a context, see [`Named`].
const HOLD: &str = "--hold";

const WATCHDOG: Option<Duration> = Some(Duration::from_secs(100));

/// The result of a command: its status, output, and errors.
struct Done {
    status: i32,
    output: String,
    errors: String,
}

#[track_caller]
fn run(program: &str, arguments: &[&str]) -> Done {
    let done = Command::new(format!("/bin/{program}"))
        .args(arguments)
        .output()
        .unwrap();

    Done {
        status: done.status.code().unwrap(),
        output: String::from_utf8(done.stdout).unwrap(),
        errors: String::from_utf8(done.stderr).unwrap(),
    }
}

/// Runs the command, which must succeed. Returns its output.
#[track_caller]
fn uxive(arguments: &[&str]) -> String {
    let done = run("uxive", arguments);

    assert_eq!((done.status, done.errors.as_str()), (0, ""));
    done.output
}

/// Runs the command, which must succeed. Returns its output, as it is.
#[track_caller]
fn uxive_bytes(arguments: &[&str]) -> Vec<u8> {
    let done = Command::new("/bin/uxive").args(arguments).output().unwrap();

    assert!(done.status.success() && done.stderr.is_empty());
    done.stdout
}

/// Runs the command, which must fail with a message.
#[track_caller]
fn uxive_fails(arguments: &[&str], status: i32, says: &str) {
    let done = run("uxive", arguments);

    assert_eq!(
        (done.status, done.output.as_str()),
        (status, ""),
        "{}",
        done.errors
    );
    assert!(done.errors.starts_with("uxive: ") && done.errors.lines().count() == 1);
    assert!(done.errors.contains(says), "{}", done.errors);
}

/// The columns of the line of `uxive list` about a context, if there is one.
fn listed(context: &Context) -> Option<Vec<String>> {
    let fdinfo = format!("/proc/self/fdinfo/{}", context.as_fd().as_raw_fd());
    let text = fs::read_to_string(fdinfo).unwrap();
    let number = text
        .lines()
        .find_map(|line| line.strip_prefix("uxive-context:\t"))
        .unwrap();
    let output = uxive(&["list"]);
    let row = |line: &str| {
        line.split_whitespace()
            .map(String::from)
            .collect::<Vec<_>>()
    };

    output.lines().map(row).find(|row| row[0] == number)
}

fn bound(context: &Context, count: u32) -> (Irqs, Vec<Event>) {
    let events: Vec<_> = (0..count).map(|_| Event::new().unwrap()).collect();
    let fds: Vec<_> = events.iter().map(|event| Some(event.as_fd())).collect();
    let batch = Batch {
        events: &fds,
        ..Default::default()
    };

    (context.alloc_many(count, &batch).unwrap(), events)
}

/// Has the programs that this one starts inherit a file. Returns its number.
fn inherit(file: BorrowedFd<'_>) -> String {
    fcntl_setfd(file, FdFlags::empty()).unwrap();
    file.as_raw_fd().to_string()
}

/// Sends a file as if it were an export.
fn send(socket: &UnixStream, file: BorrowedFd<'_>) {
    let mut space = [0; rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let files = [file];

    control.push(SendAncillaryMessage::ScmRights(&files));
    let data = [IoSlice::new(b"x")];
    sendmsg(socket, &data, &mut control, SendFlags::empty()).unwrap();
}

fn info_tells_of_limits_and_use() {
    let context = Context::open().unwrap();
    let (_irqs, _) = bound(&context, 7);
    let info = context.info().unwrap();
    let output = uxive(&["info"]);
    let line = |name: &str| {
        let line = output.lines().find(|line| line.starts_with(name)).unwrap();
        line[name.len()..]
            .split_whitespace()
            .map(|word| word.parse().unwrap())
            .collect::<Vec<u32>>()
    };

    assert!(output.starts_with(&format!("pages of {} bytes,", info.page_size)));
    // The command's own context has none.
    assert_eq!(line("interrupts, in a context"), [0, info.irqs.max]);
    assert_eq!(
        line("interrupts, in all"),
        [info.irqs_total.used, info.irqs_total.max]
    );
    assert_eq!(
        line("event queues, of this user"),
        [info.queues_user.used, info.queues_user.max]
    );
    assert_eq!(
        line("exports, in all"),
        [info.exports_total.used, info.exports_total.max]
    );
}

/// A program can rely on each of these lines, which uxive(1) has.
fn info_tells_the_same_as_json() {
    let context = Context::open().unwrap();
    let (_irqs, _) = bound(&context, 7);
    let info = context.info().unwrap();
    let usage = |usage: Usage| format!(r#"{{"used": {}, "max": {}}}"#, usage.used, usage.max);
    let both = |user, all| format!(r#""user": {}, "all": {}"#, usage(user), usage(all));
    // The command's own context has none.
    let own = usage(Usage {
        used: 0,
        max: info.irqs.max,
    });

    let lines = [
        format!(r#"  "features": "{:#x}","#, info.features),
        format!(r#"  "page_size": {},"#, info.page_size),
        format!(r#"  "trigger_page_size": {},"#, info.esb_page_size),
        format!(
            r#"  "interrupts": {{"context": {own}, {}}},"#,
            both(info.irqs_user, info.irqs_total)
        ),
        format!(
            r#"  "queues": {{{}}},"#,
            both(info.queues_user, info.queues_total)
        ),
        format!(
            r#"  "exports": {{{}}}"#,
            both(info.exports_user, info.exports_total)
        ),
    ];
    assert_eq!(
        uxive(&["info", "--json"]),
        format!("{{\n{}\n}}\n", lines.join("\n"))
    );
}

fn list_shows_a_context_and_who_has_it() {
    let context = Context::open().unwrap();
    let (irqs, _) = bound(&context, 3);

    irqs.mask(Which::Each(&[true, false, true])).unwrap();
    let _export = irqs.export().unwrap();
    let row = listed(&context).unwrap();
    assert_eq!(row[1..4], ["3", "2", "1"]);
    assert_eq!(row[7], process::id().to_string());
    assert_eq!(row[9], format!("({})", context.as_fd().as_raw_fd()));
    let debugfs = fs::exists("/sys/kernel/debug/uxive/contexts").unwrap();
    if debugfs {
        assert_eq!(row[4..6], ["open", "kernel"]);
    }

    let (number, pid) = (&row[0], process::id());
    let output = uxive(&["list", "--json"]);
    let line = output
        .lines()
        .find(|line| line.contains(&format!(r#""context": {number},"#)))
        .unwrap();
    let start =
        format!(r#"  {{"context": {number}, "irqs": 3, "masked": 2, "exports": 1, "state": "#);
    let end = format!(
        r#""holders": [{{"pid": {pid}, "name": "rust_command", "fds": [{}]}}]}}"#,
        context.as_fd().as_raw_fd()
    );
    assert!(line.starts_with(&start), "{line}");
    assert!(line.trim_end_matches(',').ends_with(&end), "{line}");
    if debugfs {
        let opener = format!(r#""opener": {{"pid": {pid}, "name": "rust_command"}}"#);
        let known = format!(r#""state": "open", "drain": "kernel", "afu": null, {opener}"#);
        assert!(line.contains(&known), "{line}");
    }
}

/// A process with a context of its own and a name. It ends when this is dropped.
struct Named(Child);

impl Named {
    /// The name is the file's, and may be anything but a path.
    fn new(name: &[u8]) -> Self {
        let mut child = Command::new(env::current_exe().unwrap())
            .arg(HOLD)
            .arg(OsStr::from_bytes(name))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut ready = [0];

        child
            .stdout
            .as_mut()
            .unwrap()
            .read_exact(&mut ready)
            .unwrap();
        Self(child)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

/// The work of this program in a process of [`Named`]: holds a context until its input ends.
fn hold(name: &OsStr) -> ExitCode {
    fs::write("/proc/self/comm", name.as_bytes()).unwrap();
    let context = Context::open().unwrap();
    let _irq = context.alloc().unwrap();

    print!("r");
    io::stdout().flush().unwrap();
    io::stdin().read_to_end(&mut vec![]).unwrap();
    ExitCode::SUCCESS
}

/// Names of processes, and how they are shown.
const NAMES: [(&[u8], &str); 9] = [
    (b"worker-7", "worker-7"),
    (b"(worker)", "(worker)"),
    (b"\x1b]0;x\x07", r#""\x1b]0;x\x07""#),
    (b"a\n99 9 9 9 open", r#""a\n99 9 9 9 open""#),
    (b"end\n", r#""end\n""#),
    (b"x (3), 1 init", r#""x (3), 1 init""#),
    (b"\xff\xfe\x80", r#""\xff\xfe\x80""#),
    (b"\r\t\x7f\xe2\x80\xae", r#""\r\t\x7f\xe2\x80\xae""#),
    (b"\\n\"", r#""\\n\"""#),
];

fn list_shows_names_that_are_no_text_escaped() {
    let processes: Vec<_> = NAMES.iter().map(|(name, _)| Named::new(name)).collect();
    let output = uxive_bytes(&["list"]);

    assert!(output
        .iter()
        .all(|byte| matches!(byte, b' '..=b'~' | b'\n')));
    let output = String::from_utf8(output).unwrap();
    // Each process has a line, and no name has made one.
    let contexts = output.lines().skip(1);
    for line in contexts.clone() {
        assert!(line.starts_with(|c: char| c.is_ascii_digit()), "{line}");
    }
    for (process, (name, shown)) in processes.iter().zip(NAMES) {
        let end = format!("  {} {shown} (", process.0.id());
        let lines = contexts.clone().filter(|line| line.contains(&end));

        assert_eq!(lines.count(), 1, "{}:\n{output}", name.escape_ascii());
    }
}

fn errors_show_what_they_are_given_escaped() {
    let fails = |arguments: &[&[u8]], status: i32, says: &str| {
        let arguments = arguments.iter().map(|bytes| OsStr::from_bytes(bytes));
        let done = Command::new("/bin/uxive").args(arguments).output().unwrap();
        let errors = String::from_utf8(done.stderr).unwrap();

        assert_eq!((done.status.code(), done.stdout.len()), (Some(status), 0));
        assert!(errors.starts_with(&format!("uxive: {says}")), "{errors:?}");
        assert!(errors.lines().count() == 1 && !errors.contains('\x1b'));
    };

    fails(&[b"\x1b\n\xff"], 2, r"\x1b\n\xff is nothing");
    fails(&[b"list", b"-\x1b"], 2, r"-\x1b is no option");
    fails(&[b"ring", b"--fd", b"1\n2"], 2, r"--fd 1\n2 is no number");
    fails(
        &[b"ring", b"--socket", b"/\x1b\xff"],
        1,
        r"/\x1b\xff: there is no such socket",
    );
}

/// A path is bytes: one that is no text is found.
fn ring_finds_a_socket_whose_path_is_no_text() {
    let path = OsStr::from_bytes(b"/tmp/uxive-\xff\n");
    let context = Context::open().unwrap();
    let (irqs, events) = bound(&context, 1);
    let export = irqs.export().unwrap();
    let _ = fs::remove_file(path);
    let listener = UnixListener::bind(path).unwrap();

    let done = thread::scope(|scope| {
        scope.spawn(|| listener.accept().map(|(socket, _)| export.send(socket)));
        let done = Command::new("/bin/uxive")
            .args(["ring", "--socket"])
            .arg(path)
            .output();
        // If it has not found the socket, nobody else ends the thread.
        let _ = UnixStream::connect(path);
        done.unwrap()
    });
    assert!(done.status.success());
    assert_eq!(events[0].wait(WATCHDOG).unwrap(), Some(1));
    fs::remove_file(path).unwrap();
}

fn ring_rings_an_inherited_export() {
    let context = Context::open().unwrap();
    let (irqs, events) = bound(&context, 3);
    let export = irqs.export().unwrap();
    let fd = inherit(export.as_fd());

    assert_eq!(uxive(&["ring", &format!("--fd={fd}")]), "rang once\n");
    assert_eq!(events[0].wait(WATCHDOG).unwrap(), Some(1));
    assert_eq!(
        uxive(&["ring", "--index", "2", "--fd", &fd, "--times", "3"]),
        "rang 3 times\n"
    );
    assert!((1..=3).contains(&events[2].wait(WATCHDOG).unwrap().unwrap()));
    assert_eq!(events[1].wait(Some(Duration::ZERO)).unwrap(), None);

    irqs.free().unwrap();
    uxive_fails(
        &["ring", "--fd", &fd],
        3,
        "taken the doorbell back, after 0 rings",
    );
}

fn ring_rings_an_export_that_is_sent_by_a_socket() {
    const PATH: &str = "/tmp/uxive-socket";
    let context = Context::open().unwrap();
    let (irqs, events) = bound(&context, 2);
    let export = irqs.export().unwrap();
    let _ = fs::remove_file(PATH);
    let listener = UnixListener::bind(PATH).unwrap();
    let send = || export.send(listener.accept().unwrap().0).unwrap();

    thread::scope(|scope| {
        scope.spawn(send);
        assert_eq!(
            uxive(&["ring", "--socket", PATH, "--index", "1"]),
            "rang once\n"
        );
        scope.spawn(send);
        uxive_fails(
            &["ring", "--socket", PATH, "--index", "2"],
            1,
            "2 doorbells, and none of index 2",
        );
    });
    assert_eq!(events[1].wait(WATCHDOG).unwrap(), Some(1));
    thread::scope(|scope| {
        scope.spawn(|| drop(listener.accept().unwrap()));
        let says = "uxive-socket: the other program has sent nothing\n";
        uxive_fails(&["ring", "--socket", PATH], 1, says);
        scope.spawn(|| listener.accept().unwrap().0.write_all(b"x").unwrap());
        let says = "uxive-socket: the other program has sent no file\n";
        uxive_fails(&["ring", "--socket", PATH], 1, says);
    });
    drop(listener);
    let says = "uxive-socket: no program listens there\n";
    uxive_fails(&["ring", "--socket", PATH], 1, says);
    fs::remove_file(PATH).unwrap();
}

fn ring_says_what_it_is_given_that_is_no_export() {
    const PATH: &str = "/tmp/uxive-precious";
    let precious = vec![b'x'; 64 * 1024];
    let path = OsStr::from_bytes(b"/tmp/uxive \x1b\xff");
    let context = Context::open().unwrap();
    let (irq, event) = (context.alloc().unwrap(), Event::new().unwrap());
    let is = |file: BorrowedFd<'_>, what: &str| {
        let fd = inherit(file);
        let says = format!("fd {fd} is {what}, not an export\n");

        uxive_fails(&["ring", "--fd", &fd], 1, &says);
    };
    let create = |path: &OsStr| {
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true);
        options.open(path).unwrap()
    };

    irq.bind(&event).unwrap();
    is(event.as_fd(), "an eventfd");
    is(context.as_fd(), "a context");
    is(context.range(2).unwrap().as_fd(), "a range");
    uxive_fails(&["ring", "--fd", "1000"], 1, "fd 1000 is not open\n");
    fs::write(PATH, &precious).unwrap();
    is(create(OsStr::new(PATH)).as_fd(), PATH);
    assert!(fs::read(PATH).unwrap() == precious);
    fs::remove_file(PATH).unwrap();
    is(create(path).as_fd(), r#""/tmp/uxive \x1b\xff""#);
    fs::remove_file(path).unwrap();
    assert_eq!(event.wait(Some(Duration::ZERO)).unwrap(), None);
}

fn ring_says_what_an_export_lacks_and_what_was_sent_instead() {
    const PATH: &str = "/tmp/uxive-socket";
    let context = Context::open().unwrap();
    let (irqs, events) = bound(&context, 3);
    let export = irqs.export().unwrap();
    let fd = inherit(export.as_fd());
    let _ = fs::remove_file(PATH);
    let listener = UnixListener::bind(PATH).unwrap();

    uxive_fails(
        &["ring", "--fd", &fd, "--index", "3"],
        1,
        "the export has 3 doorbells, and none of index 3",
    );
    thread::scope(|scope| {
        scope.spawn(|| send(&listener.accept().unwrap().0, events[0].as_fd()));
        uxive_fails(
            &["ring", "--socket", PATH],
            1,
            "/tmp/uxive-socket: the file that was sent is not an export\n",
        );
    });
    fs::remove_file(PATH).unwrap();
    for event in &events {
        assert_eq!(event.wait(Some(Duration::ZERO)).unwrap(), None);
    }
}

fn bench_shows_a_histogram_of_all_rings() {
    let output = uxive(&["bench", "--rings", "500"]);
    let counted: u32 = output
        .lines()
        .skip_while(|line| !line.trim_start().starts_with("from ns"))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| {
            line.split_whitespace()
                .nth(1)
                .unwrap()
                .parse::<u32>()
                .unwrap()
        })
        .sum();

    ktap::log(&output);
    assert_eq!(counted, 500);
    // Here it always is.
    assert!(output.contains("wall-clock time") && output.contains("emulated machine"));
}

fn what_it_does_not_know_is_told() {
    for arguments in [&[][..], &["sing"], &["ring"], &["bench", "--rings", "many"]] {
        uxive_fails(arguments, 2, "see uxive help");
    }
    for command in ["info", "list", "ring", "bench"] {
        let help = uxive(&["help", command]);
        assert!(help.starts_with(&format!("NAME\n    uxive {command} - ")));
        assert_eq!(uxive(&[command, "--help"]), help);
    }
    assert!(uxive(&["--version"]).starts_with("uxive "));
}

fn the_examples_run() {
    for name in [
        "ring-c",
        "doorbell-c",
        "ring",
        "eventfd",
        "drain",
        "ready",
        "travel",
    ] {
        let done = run(&format!("example-{name}"), &[]);

        ktap::log(&done.output);
        assert_eq!((done.status, done.errors.as_str()), (0, ""), "{name}");
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args_os().skip(1);
    if let (Some(HOLD), Some(name)) = (
        arguments.next().as_deref().and_then(OsStr::to_str),
        arguments.next(),
    ) {
        return hold(&name);
    }

    macro_rules! tests {
        ($($test:ident),* $(,)?) => {
            ktap::run(&[$((stringify!($test), $test as fn())),*])
        };
    }

    tests![
        info_tells_of_limits_and_use,
        info_tells_the_same_as_json,
        list_shows_a_context_and_who_has_it,
        list_shows_names_that_are_no_text_escaped,
        errors_show_what_they_are_given_escaped,
        ring_finds_a_socket_whose_path_is_no_text,
        ring_rings_an_inherited_export,
        ring_rings_an_export_that_is_sent_by_a_socket,
        ring_says_what_it_is_given_that_is_no_export,
        ring_says_what_an_export_lacks_and_what_was_sent_instead,
        bench_shows_a_histogram_of_all_rings,
        what_it_does_not_know_is_told,
        the_examples_run,
    ]
}
