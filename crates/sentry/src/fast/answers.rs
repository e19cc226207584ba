//! What a thread is told of files, left where its stub finds it when it asks again. docs/decisions/2026-11-28-answers-in-shared-memory.md.
//! Handlers begin a `Trail`, and leave the answer if that never left what is remembered (`vfs::cache::answers`, which ends what is true no more).

use casemate_platform::answers::{self, Answer};

use crate::errno::{Errno, Result};
use crate::syscalls::Cx;
use crate::vfs::cache::Trail;

impl Cx<'_> {
    /// Of a call by a path. `None`: its caller keeps no answers, or not of such a path.
    #[must_use]
    pub fn trail_of_path(&self, directory: i32, path: &[u8]) -> Option<Trail> {
        if !self.keeps_answers() || path.is_empty() || path.len() >= answers::PATH_LEN {
            return None;
        }
        let own = &self.kernel.files.answers;
        if path.starts_with(b"/") {
            return Some(Trail::new(own));
        }
        (directory == libc::AT_FDCWD).then(|| Trail::from_directory(own))
    }

    /// Of a call by a descriptor.
    #[must_use]
    pub fn trail_of_descriptor(&self) -> Option<Trail> {
        self.keeps_answers()
            .then(|| Trail::new(&self.kernel.files.answers))
    }

    /// A thread with a slot, but not one whose own filters are to see each call.
    fn keeps_answers(&self) -> bool {
        answers::is_looked_up(self.call.nr)
            && self
                .task()
                .is_ok_and(|task| task.slot.is_some() && task.credentials.filters.is_none())
    }

    /// What the caller is about to be told: a result, and data for its memory. Of errors only that there is no such file.
    pub fn leave_answer(&self, trail: Option<&Trail>, path: &[u8], told: Result<(i64, &[u8])>) {
        let (Some(trail), Ok(task)) = (trail, self.task()) else {
            return;
        };
        let (result, data) = match told {
            Ok(told) => told,
            Err(Errno::ENOENT) => (-i64::from(libc::ENOENT), &[][..]),
            Err(_) => return,
        };
        let Some(slot) = &task.slot else { return };
        let answer = Answer {
            nr: self.call.nr,
            args: self.call.args,
            path,
            result,
            data,
            deadline: 0,
        };
        let place = (&slot.channel, slot.index);
        self.kernel.files.answers.put(place, trail, answer);
    }
}
