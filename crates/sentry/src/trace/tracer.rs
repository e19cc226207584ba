//! `--strace`: a line for each call that the sentry handles, in the manner of strace(1), or a JSON object.

use std::collections::{BTreeSet, HashMap};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use casemate_platform::filter;
use casemate_platform::notify::Call;
use serde::{Deserialize, Serialize};

use super::decode::{self, Decoder, Shown};
use super::escape::json;
use super::{Sink, is_over, numbers};
use crate::errno::Errno;
use crate::memory::Memory;
use crate::syscalls::table::{self, Row};
use crate::syscalls::{Outcome, SysResult};

/// Bytes of a string that are shown at most, whatever is asked for.
const MOST_SHOWN: usize = 4096;

/// What is asked for.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// A JSON object for each call.
    pub json: bool,
    /// Only these calls, by name; all if empty.
    pub calls: Vec<String>,
    /// Bytes of a string that are shown.
    pub size: usize,
}

/// There is no call of this name.
#[derive(Debug)]
pub struct UnknownCall(pub String);

/// A call under way.
#[derive(Debug)]
struct Entered {
    who: (i32, i32),
    began: Instant,
    time: Duration,
    arguments: Vec<Shown>,
    /// It was told already that the call waits.
    is_told: bool,
}

#[derive(Debug)]
pub struct Tracer {
    sink: Sink,
    json: bool,
    size: usize,
    only: BTreeSet<i32>,
    /// By native thread.
    entered: HashMap<i32, Entered>,
}

/// More threads than a sandbox has: what is left over of ended ones goes.
const MOST_ENTERED: usize = 1 << 16;

impl Tracer {
    /// # Errors
    /// A name that no call has.
    pub fn new(settings: &Settings, sink: Sink) -> Result<Self, UnknownCall> {
        let number = |name: &String| {
            let row = table::ROWS.iter().find(|row| row.name == name);
            row.map(|row| row.nr)
                .ok_or_else(|| UnknownCall(name.clone()))
        };
        let mut tracer = Self {
            sink,
            json: settings.json,
            size: settings.size.min(MOST_SHOWN),
            only: settings
                .calls
                .iter()
                .map(number)
                .collect::<Result<_, _>>()?,
            entered: HashMap::new(),
        };
        tracer.say_what_is_not_seen();
        Ok(tracer)
    }

    fn say_what_is_not_seen(&mut self) {
        let names = unseen();
        let line = if self.json {
            let names: Vec<String> = names.iter().map(|name| json(name)).collect();
            format!("{{\"unseen\":[{}]}}\n", names.join(","))
        } else {
            format!(
                "--- not shown, since the host answers them: {} ---\n",
                names.join(" ")
            )
        };
        self.sink.write(&line);
    }

    /// A call begins, of this process and thread in the sandbox.
    pub(super) fn enter(&mut self, call: &Call, who: (i32, i32)) {
        self.entered.remove(&call.tid);
        if !self.shows(call.nr) {
            return;
        }
        if self.entered.len() > MOST_ENTERED {
            self.entered.clear();
        }
        let arguments = match table::row(call.nr) {
            Some(row) => self.decoder(call.tid).arguments(row, &call.args),
            None => call
                .args
                .iter()
                .map(|value| Shown::Now(format!("{value:#x}")))
                .collect(),
        };
        let time = SystemTime::now().duration_since(UNIX_EPOCH);
        let entered = Entered {
            who,
            began: Instant::now(),
            time: time.unwrap_or_default(),
            arguments,
            is_told: false,
        };
        self.entered.insert(call.tid, entered);
    }

    /// What the stub and the loader ask has numbers that no call has.
    fn shows(&self, nr: i32) -> bool {
        (0..512).contains(&nr) && (self.only.is_empty() || self.only.contains(&nr))
    }

    fn decoder(&self, tid: i32) -> Decoder {
        Decoder {
            memory: Memory { tid },
            limit: self.size,
        }
    }

    /// A call was handled.
    pub(super) fn leave(&mut self, call: &Call, outcome: &SysResult) {
        let Some(mut entered) = self.entered.remove(&call.tid) else {
            return;
        };
        if is_over(outcome) {
            let line = self.line(call, &entered, Some(outcome));
            self.sink.write(&line);
            return;
        }
        if !entered.is_told {
            entered.is_told = true;
            let line = self.line(call, &entered, None);
            self.sink.write(&line);
        }
        self.entered.insert(call.tid, entered);
    }

    fn line(&self, call: &Call, entered: &Entered, outcome: Option<&SysResult>) -> String {
        let row = table::row(call.nr);
        let name = table::name(call.nr);
        let decoder = self.decoder(call.tid);
        let result = outcome.and_then(|outcome| match outcome {
            Ok(Outcome::Value(value)) if *value >= 0 => Some(*value),
            _ => None,
        });
        let arguments = entered.arguments.iter().map(|argument| match argument {
            Shown::Now(text) => text.clone(),
            Shown::After(after) => decoder.after(*after, result),
        });
        let arguments: Vec<String> = arguments.collect();
        if self.json {
            return json_line(&name, row, entered, &arguments, outcome);
        }
        let later = if entered.is_told && outcome.is_some() {
            entered.began.elapsed()
        } else {
            Duration::ZERO
        };
        let prefix = prefix(entered.time + later, entered.who);
        match outcome {
            None => format!("{prefix} {name}({}) = ... waits\n", arguments.join(", ")),
            Some(outcome) => {
                let again = if entered.is_told { "... " } else { "" };
                let took = entered.began.elapsed().as_secs_f64();
                let result = result_text(row, outcome);
                format!(
                    "{prefix} {again}{name}({}) = {result} <{took:.6}>\n",
                    arguments.join(", ")
                )
            }
        }
    }

    pub(super) fn signal(&mut self, pid: i32, tid: i32, signal: i32) {
        let name = numbers::signal(signal);
        self.tell((pid, tid), "signal", &name, &format!("--- {name} ---"));
    }

    pub(super) fn process_ended(&mut self, pid: i32, status: i32) {
        let how = numbers::status(status);
        self.tell((pid, pid), "ended", &how, &format!("+++ {how} +++"));
    }

    fn tell(&mut self, (pid, tid): (i32, i32), what: &str, value: &str, text: &str) {
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let line = if self.json {
            let time = time.as_secs_f64();
            format!(
                "{{\"time\":{time:.6},\"pid\":{pid},\"tid\":{tid},\"{what}\":{}}}\n",
                json(value)
            )
        } else {
            format!("{} {text}\n", prefix(time, (pid, tid)))
        };
        self.sink.write(&line);
    }
}

/// Calls that some host answers without asking: some of them only with certain arguments.
#[must_use]
pub fn unseen() -> Vec<&'static str> {
    filter::NATIVE.iter().map(|native| native.name).collect()
}

/// The time of day (UTC), and the thread; with its process, where that has another number.
fn prefix(time: Duration, (pid, tid): (i32, i32)) -> String {
    let seconds = time.as_secs() % 86_400;
    let (hours, minutes, rest) = (seconds / 3600, seconds / 60 % 60, seconds % 60);
    let who = if pid == tid {
        pid.to_string()
    } else {
        format!("{pid}/{tid}")
    };
    format!(
        "{hours:02}:{minutes:02}:{rest:02}.{:06} [{who}]",
        time.subsec_micros()
    )
}

fn result_text(row: Option<&Row>, outcome: &SysResult) -> String {
    match outcome {
        Ok(Outcome::Value(value)) if (-4095..0).contains(value) => error_text(-*value as i32),
        Ok(Outcome::Value(value)) if row.is_some_and(|row| decode::returns_address(row.name)) => {
            format!("{value:#x}")
        }
        Ok(Outcome::Value(value)) => value.to_string(),
        Ok(Outcome::Native) => "? (by the host)".to_owned(),
        Ok(_) => "?".to_owned(),
        Err(Errno(number)) => error_text(*number),
    }
}

fn error_text(number: i32) -> String {
    format!(
        "-1 {} ({})",
        numbers::error(number),
        numbers::description(number)
    )
}

fn json_line(
    name: &str,
    row: Option<&Row>,
    entered: &Entered,
    arguments: &[String],
    outcome: Option<&SysResult>,
) -> String {
    let names = row.map(|row| row.arguments).unwrap_or_default();
    let fields = arguments.iter().enumerate().map(|(at, text)| {
        let name = names.get(at).map_or_else(
            || format!("argument{at}"),
            |argument| argument.name.to_owned(),
        );
        format!("{}:{}", json(&name), json(text))
    });
    let fields: Vec<String> = fields.collect();
    let result = match outcome {
        None => "\"waits\":true".to_owned(),
        Some(outcome) => {
            let took = entered.began.elapsed().as_secs_f64();
            format!("{}\"seconds\":{took:.6}", json_result(outcome))
        }
    };
    let ((pid, tid), time) = (entered.who, entered.time.as_secs_f64());
    format!(
        "{{\"time\":{time:.6},\"pid\":{pid},\"tid\":{tid},\"call\":{},\"arguments\":{{{}}},{result}}}\n",
        json(name),
        fields.join(",")
    )
}

fn json_result(outcome: &SysResult) -> String {
    match outcome {
        Ok(Outcome::Value(value)) if !(-4095..0).contains(value) => format!("\"result\":{value},"),
        Ok(Outcome::Value(value)) => json_error(-*value as i32),
        Ok(Outcome::Native) => "\"by\":\"host\",".to_owned(),
        Ok(_) => String::new(),
        Err(Errno(number)) => json_error(*number),
    }
}

fn json_error(number: i32) -> String {
    format!("\"result\":-1,\"error\":{},", json(&numbers::error(number)))
}
