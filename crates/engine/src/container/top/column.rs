//! The columns of ps(1) and the words that ask for them. It must not know
//! where processes are read.

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::process::{Host, Process};
use crate::Error;

/// What a column shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Field {
    User,
    Uid,
    Group,
    Pid,
    ParentPid,
    ProcessGroup,
    Session,
    /// Share of one processor since the start, in whole percents.
    CpuWhole,
    CpuPercent,
    MemoryPercent,
    Virtual,
    Resident,
    Terminal,
    State,
    StateLetter,
    Start,
    Elapsed,
    TimeLong,
    TimeShort,
    Command,
    Name,
    Nice,
    Priority,
    Threads,
}

/// Word, title and field: ps(1), "STANDARD FORMAT SPECIFIERS".
const COLUMNS: [(&str, &str, Field); 41] = [
    ("user", "USER", Field::User),
    ("euser", "EUSER", Field::User),
    ("uname", "USER", Field::User),
    ("uid", "UID", Field::Uid),
    ("euid", "EUID", Field::Uid),
    ("gid", "GID", Field::Group),
    ("egid", "EGID", Field::Group),
    ("pid", "PID", Field::Pid),
    ("tgid", "TGID", Field::Pid),
    ("ppid", "PPID", Field::ParentPid),
    ("pgid", "PGID", Field::ProcessGroup),
    ("pgrp", "PGRP", Field::ProcessGroup),
    ("sid", "SID", Field::Session),
    ("sess", "SESS", Field::Session),
    ("c", "C", Field::CpuWhole),
    ("%cpu", "%CPU", Field::CpuPercent),
    ("pcpu", "%CPU", Field::CpuPercent),
    ("%mem", "%MEM", Field::MemoryPercent),
    ("pmem", "%MEM", Field::MemoryPercent),
    ("vsz", "VSZ", Field::Virtual),
    ("vsize", "VSZ", Field::Virtual),
    ("rss", "RSS", Field::Resident),
    ("rssize", "RSS", Field::Resident),
    ("tty", "TT", Field::Terminal),
    ("tt", "TT", Field::Terminal),
    ("tname", "TTY", Field::Terminal),
    ("stat", "STAT", Field::State),
    ("state", "S", Field::StateLetter),
    ("s", "S", Field::StateLetter),
    ("start_time", "START", Field::Start),
    ("stime", "STIME", Field::Start),
    ("etime", "ELAPSED", Field::Elapsed),
    ("time", "TIME", Field::TimeLong),
    ("args", "COMMAND", Field::Command),
    ("cmd", "CMD", Field::Command),
    ("command", "COMMAND", Field::Command),
    ("comm", "COMMAND", Field::Name),
    ("ucmd", "CMD", Field::Name),
    ("ni", "NI", Field::Nice),
    ("pri", "PRI", Field::Priority),
    ("nlwp", "NLWP", Field::Threads),
];

const FULL: [(&str, Field); 8] = [
    ("UID", Field::User),
    ("PID", Field::Pid),
    ("PPID", Field::ParentPid),
    ("C", Field::CpuWhole),
    ("STIME", Field::Start),
    ("TTY", Field::Terminal),
    ("TIME", Field::TimeLong),
    ("CMD", Field::Command),
];

const SHORT: [(&str, Field); 4] = [
    ("PID", Field::Pid),
    ("TTY", Field::Terminal),
    ("TIME", Field::TimeLong),
    ("CMD", Field::Name),
];

const BY_USER: [(&str, Field); 11] = [
    ("USER", Field::User),
    ("PID", Field::Pid),
    ("%CPU", Field::CpuPercent),
    ("%MEM", Field::MemoryPercent),
    ("VSZ", Field::Virtual),
    ("RSS", Field::Resident),
    ("TTY", Field::Terminal),
    ("STAT", Field::State),
    ("START", Field::Start),
    ("TIME", Field::TimeShort),
    ("COMMAND", Field::Command),
];

/// A column under its title.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Column {
    title: String,
    field: Field,
}

impl Column {
    /// The columns that options of ps(1) ask for.
    pub(super) fn parse(options: &str) -> Result<Vec<Column>, Error> {
        let unknown = |word: &str| {
            Error::invalid(format!(
                "ps option {word:?} is not supported: -ef, aux and -o with columns are"
            ))
        };
        let mut own: Vec<Column> = Vec::new();
        let mut standard: &[(&str, Field)] = &SHORT;
        let mut words = options.split_whitespace();
        while let Some(word) = words.next() {
            let letters = word.strip_prefix('-').unwrap_or(word);
            if let Some(list) = word.strip_prefix("--format=") {
                own.extend(Column::list(list)?);
                continue;
            }
            let mut rest = letters.chars();
            while let Some(letter) = rest.next() {
                match letter {
                    'f' if word.starts_with('-') => standard = &FULL,
                    'u' if !word.starts_with('-') => standard = &BY_USER,
                    // Which processes: always those of the container; and
                    // `f`, which draws a tree, and `w`, which cuts nothing off.
                    'e' | 'A' | 'a' | 'x' | 'w' | 'f' => {}
                    'o' => {
                        let attached = rest.as_str();
                        let list = match attached.is_empty() {
                            true => words.next().ok_or_else(|| unknown(word))?,
                            false => attached,
                        };
                        own.extend(Column::list(list)?);
                        break;
                    }
                    _ => return Err(unknown(word)),
                }
            }
        }
        // So many write it who mean `-ef`; to ps it is a tree with environments.
        if options.trim() == "ef" {
            standard = &FULL;
        }
        if !own.is_empty() {
            return Ok(own);
        }
        let column = |(title, field): &(&str, Field)| Column {
            title: (*title).to_owned(),
            field: *field,
        };
        Ok(standard.iter().map(column).collect())
    }

    /// `pid,comm=NAME`.
    fn list(words: &str) -> Result<Vec<Column>, Error> {
        let column = |word: &str| {
            let (word, title) = match word.split_once('=') {
                Some((word, title)) => (word, Some(title)),
                None => (word, None),
            };
            let found = COLUMNS.iter().find(|(name, ..)| *name == word);
            let (_, standard, field) = found.ok_or_else(|| {
                Error::invalid(format!("unknown user-defined format specifier {word:?}"))
            })?;
            Ok(Column {
                title: title.unwrap_or(standard).to_owned(),
                field: *field,
            })
        };
        words
            .split(',')
            .filter(|word| !word.is_empty())
            .map(column)
            .collect()
    }

    pub(super) fn title(&self) -> &str {
        &self.title
    }

    /// What the column holds for a process.
    pub(super) fn show(&self, process: &Process, host: &Host) -> String {
        let ticks = host.ticks.max(1);
        let cpu_s = process.cpu_ticks / ticks;
        let started_s = process.start_ticks as f64 / ticks as f64;
        let age_s = (host.uptime_s - started_s).max(0.0);
        let cpu_percent = match age_s > 0.0 {
            true => process.cpu_ticks as f64 / ticks as f64 * 100.0 / age_s,
            false => 0.0,
        };
        let resident_kib = process.resident_pages * host.page_kib;
        match self.field {
            Field::User => host.user(process.uid),
            Field::Uid => process.uid.to_string(),
            Field::Group => process.gid.to_string(),
            Field::Pid => process.pid.to_string(),
            Field::ParentPid => process.ppid.to_string(),
            Field::ProcessGroup => process.group.to_string(),
            Field::Session => process.session.to_string(),
            Field::CpuWhole => (cpu_percent.min(99.0) as u64).to_string(),
            Field::CpuPercent => format!("{cpu_percent:.1}"),
            Field::MemoryPercent => {
                let share = resident_kib as f64 * 100.0 / host.memory_kib.max(1) as f64;
                format!("{share:.1}")
            }
            Field::Virtual => (process.virtual_bytes / 1024).to_string(),
            Field::Resident => resident_kib.to_string(),
            Field::Terminal => terminal(process.terminal),
            Field::State => state(process),
            Field::StateLetter => process.state.to_string(),
            Field::Start => start(host.boot_s + started_s as i64, &TimeZone::system()),
            Field::Elapsed => elapsed(age_s as u64),
            Field::TimeLong => long_time(cpu_s),
            Field::TimeShort => format!("{}:{:02}", cpu_s / 60, cpu_s % 60),
            Field::Command if process.arguments.is_empty() => match process.state {
                'Z' => format!("[{}] <defunct>", process.name),
                _ => format!("[{}]", process.name),
            },
            Field::Command => process.arguments.clone(),
            Field::Name => process.name.clone(),
            Field::Nice => process.nice.to_string(),
            // As ps has it, the kernel's turned round.
            Field::Priority => (39 - process.priority).to_string(),
            Field::Threads => process.threads.to_string(),
        }
    }
}

/// The name of a terminal from its device number: major in bits 8 to 19.
fn terminal(device: u64) -> String {
    let major = device >> 8 & 0xfff;
    let minor = device & 0xff | device >> 12 & 0xf_ff00;
    match major {
        _ if device == 0 => "?".into(),
        136..=143 => format!("pts/{}", (major - 136) * 256 + minor),
        4 if minor < 64 => format!("tty{minor}"),
        4 => format!("ttyS{}", minor - 64),
        _ => format!("{major}:{minor}"),
    }
}

/// The state with its marks: ps(1), "PROCESS STATE CODES".
fn state(process: &Process) -> String {
    let mut text = process.state.to_string();
    for (mark, is_so) in [
        ('<', process.nice < 0),
        ('N', process.nice > 0),
        ('L', process.locked_kib > 0),
        ('s', process.session == process.pid),
        ('l', process.threads > 1),
        ('+', process.foreground == process.group),
    ] {
        if is_so {
            text.push(mark);
        }
    }
    text
}

/// The hour on the first day, the day within a year, then the year.
fn start(started_s: i64, zone: &TimeZone) -> String {
    let Ok(started) = Timestamp::from_second(started_s) else {
        return "?".into();
    };
    let (started, now) = (
        started.to_zoned(zone.clone()),
        Timestamp::now().to_zoned(zone.clone()),
    );
    let format = if started.date() == now.date() {
        "%H:%M"
    } else if started.year() == now.year() {
        "%b%d"
    } else {
        "%Y"
    };
    started.strftime(format).to_string()
}

/// `[DD-]hh:mm:ss`.
fn long_time(seconds: u64) -> String {
    let (days, hours) = (seconds / 86_400, seconds / 3600 % 24);
    let clock = format!("{hours:02}:{:02}:{:02}", seconds / 60 % 60, seconds % 60);
    if days > 0 {
        format!("{days}-{clock}")
    } else {
        clock
    }
}

/// `[[DD-]hh:]mm:ss`.
fn elapsed(seconds: u64) -> String {
    if seconds < 3600 {
        return format!("{:02}:{:02}", seconds / 60, seconds % 60);
    }
    long_time(seconds)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn titles(options: &str) -> Vec<String> {
        Column::parse(options)
            .unwrap()
            .into_iter()
            .map(|column| column.title)
            .collect()
    }

    #[test]
    fn options_choose_columns_as_ps_does() {
        let full = ["UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD"];
        for options in ["-ef", "ef", "-e -f", "-fe"] {
            assert_eq!(titles(options), full, "{options}");
        }
        let by_user = [
            "USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND",
        ];
        assert_eq!(titles("aux"), by_user);
        assert_eq!(titles("auxww"), by_user);
        assert_eq!(titles("-o pid,comm"), ["PID", "COMMAND"]);
        assert_eq!(titles("-opid,args=WHAT -o user"), ["PID", "WHAT", "USER"]);
        assert_eq!(titles("-eo pid"), ["PID"]);
        for bad in ["-Z", "-o", "-o nosuch", "--forest"] {
            assert!(Column::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_process_is_shown_as_ps_shows_it() {
        let host = Host {
            boot_s: 1_000_000_000,
            uptime_s: 100.0,
            memory_kib: 4_000_000,
            ticks: 100,
            page_kib: 4,
            ..Host::default()
        };
        let process = Process {
            pid: 7,
            ppid: 3,
            session: 7,
            state: 'S',
            terminal: 34817,
            cpu_ticks: 150,
            resident_pages: 1000,
            virtual_bytes: 2_322_432,
            arguments: "sleep 1000".into(),
            threads: 1,
            foreground: -1,
            ..Process::default()
        };
        let row = |options: &str| -> Vec<String> {
            let columns = Column::parse(options).unwrap();
            columns
                .iter()
                .map(|column| column.show(&process, &host))
                .collect()
        };
        assert_eq!(
            row("-ef"),
            [
                "0",
                "7",
                "3",
                "1",
                "2001",
                "pts/1",
                "00:00:01",
                "sleep 1000"
            ]
        );
        let expected = [
            "0",
            "7",
            "1.5",
            "0.1",
            "2268",
            "4000",
            "pts/1",
            "Ss",
            "2001",
            "0:01",
            "sleep 1000",
        ];
        assert_eq!(row("aux"), expected);
        assert_eq!(row("-o etime,pri,ni"), ["01:40", "39", "0"]);
    }

    #[test]
    fn a_process_without_arguments_is_shown_by_its_name() {
        let zombie = Process {
            state: 'Z',
            name: "sh".into(),
            ..Process::default()
        };
        let columns = Column::parse("-o cmd,tty,stat").unwrap();
        let row: Vec<_> = columns
            .iter()
            .map(|c| c.show(&zombie, &Host::default()))
            .collect();
        assert_eq!(row[0], "[sh] <defunct>");
        assert_eq!(row[1], "?");
    }

    #[test]
    fn times_grow_by_fields() {
        assert_eq!(long_time(86_400 + 3_661), "1-01:01:01");
        assert_eq!(
            (elapsed(61).as_str(), elapsed(3_661).as_str()),
            ("01:01", "01:01:01")
        );
    }
}
