//! Trees of processes on Windows: a job object, which nothing leaves and which ends with us.

#![expect(unsafe_code, reason = "job objects have no safe interface")]

use std::{
    collections::BTreeSet,
    io, mem,
    os::windows::io::{AsRawHandle as _, FromRawHandle as _, OwnedHandle},
    ptr,
};

use tokio::process::Command;
use windows_sys::Win32::{
    Foundation::{HANDLE, INVALID_HANDLE_VALUE},
    System::{
        Diagnostics::ToolHelp::{
            CreateToolhelp32Snapshot, TH32CS_SNAPTHREAD, THREADENTRY32, Thread32First, Thread32Next,
        },
        JobObjects::{
            AssignProcessToJobObject, CreateJobObjectW, JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE,
            JOBOBJECT_BASIC_ACCOUNTING_INFORMATION, JOBOBJECT_EXTENDED_LIMIT_INFORMATION,
            JobObjectBasicAccountingInformation, JobObjectExtendedLimitInformation,
            QueryInformationJobObject, SetInformationJobObject, TerminateJobObject,
        },
        Threading::{
            CREATE_NO_WINDOW, CREATE_SUSPENDED, OpenThread, ResumeThread, THREAD_SUSPEND_RESUME,
        },
    },
};

use super::terminate::Census;

/// The program begins suspended, so that it is in its job before it can start anything.
pub(super) fn prepare(command: &mut Command) {
    command.creation_flags(CREATE_SUSPENDED | CREATE_NO_WINDOW);
}

/// A program and all it started.
#[derive(Debug)]
pub(super) struct Tree {
    /// When the last handle closes, also by our own death, everybody in the job is killed.
    job: OwnedHandle,
}

impl Tree {
    pub(super) fn of_child(child: &tokio::process::Child, pid: u32, _: &str) -> io::Result<Self> {
        let process = child
            .raw_handle()
            .ok_or_else(|| io::Error::other("no process handle"))?;
        let tree = Self { job: job()? };
        // SAFETY: both handles are open for the length of the call.
        check(unsafe { AssignProcessToJobObject(tree.handle(), process.cast()) })?;
        resume(pid)?;
        Ok(tree)
    }

    pub(super) fn census(&mut self) -> Census {
        let alive = self.active().unwrap_or(0);
        // A job does not tell who leads it; whoever is left is given the whole ladder.
        Census {
            alive,
            leader: alive > 0,
        }
    }

    /// There is no SIGTERM for a program without a window or console: its input was closed.
    pub(super) fn terminate(&mut self) -> Census {
        self.census()
    }

    pub(super) fn kill(&mut self) -> Census {
        let census = self.census();
        // SAFETY: the handle is open for the length of the call.
        if let Err(error) = check(unsafe { TerminateJobObject(self.handle(), 1) }) {
            tracing::debug!(%error, "a job could not be ended");
        }
        census
    }

    /// Closing the job kills nobody who is dead already.
    pub(super) fn let_go(self) {
        drop(self);
    }

    fn handle(&self) -> HANDLE {
        self.job.as_raw_handle().cast()
    }

    fn active(&self) -> io::Result<usize> {
        let mut counts = JOBOBJECT_BASIC_ACCOUNTING_INFORMATION::default();
        // SAFETY: the pointer and the size are those of the structure this question fills.
        check(unsafe {
            QueryInformationJobObject(
                self.handle(),
                JobObjectBasicAccountingInformation,
                (&raw mut counts).cast(),
                size_of(&counts),
                ptr::null_mut(),
            )
        })?;
        Ok(counts.ActiveProcesses as usize)
    }
}

fn job() -> io::Result<OwnedHandle> {
    // SAFETY: both arguments may be null; the result is checked before it is owned.
    let job = unsafe { CreateJobObjectW(ptr::null(), ptr::null()) };
    if job.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh handle that nobody else owns.
    let owned = unsafe { OwnedHandle::from_raw_handle(job.cast()) };
    let mut limits = JOBOBJECT_EXTENDED_LIMIT_INFORMATION::default();
    limits.BasicLimitInformation.LimitFlags = JOB_OBJECT_LIMIT_KILL_ON_JOB_CLOSE;
    // SAFETY: the pointer and the size are those of the structure this question reads.
    check(unsafe {
        SetInformationJobObject(
            job,
            JobObjectExtendedLimitInformation,
            (&raw const limits).cast(),
            size_of(&limits),
        )
    })?;
    Ok(owned)
}

/// Lets the only thread of a suspended process go on.
fn resume(pid: u32) -> io::Result<()> {
    // SAFETY: no pointers; the result is checked before it is owned.
    let snapshot = unsafe { CreateToolhelp32Snapshot(TH32CS_SNAPTHREAD, 0) };
    if snapshot == INVALID_HANDLE_VALUE {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: a fresh handle that nobody else owns.
    let _owned = unsafe { OwnedHandle::from_raw_handle(snapshot.cast()) };
    let mut entry = THREADENTRY32::default();
    entry.dwSize = size_of(&entry);
    // SAFETY: the entry carries its own size, as the call wants.
    let mut more = unsafe { Thread32First(snapshot, &raw mut entry) };
    while more != 0 {
        if entry.th32OwnerProcessID == pid {
            // SAFETY: no pointers; the result is checked before it is owned.
            let thread = unsafe { OpenThread(THREAD_SUSPEND_RESUME, 0, entry.th32ThreadID) };
            if thread.is_null() {
                return Err(io::Error::last_os_error());
            }
            // SAFETY: a fresh handle that nobody else owns.
            let _owned = unsafe { OwnedHandle::from_raw_handle(thread.cast()) };
            // SAFETY: the handle is open for the length of the call.
            if unsafe { ResumeThread(thread) } == u32::MAX {
                return Err(io::Error::last_os_error());
            }
            return Ok(());
        }
        // SAFETY: as above.
        more = unsafe { Thread32Next(snapshot, &raw mut entry) };
    }
    Err(io::Error::other("the new process has no thread"))
}

fn size_of<T>(_: &T) -> u32 {
    u32::try_from(mem::size_of::<T>()).expect("system structures are small")
}

fn check(outcome: i32) -> io::Result<()> {
    if outcome == 0 {
        Err(io::Error::last_os_error())
    } else {
        Ok(())
    }
}

/// Jobs leave no orphans.
#[derive(Debug, Default)]
pub(super) struct Orphanage;

#[expect(clippy::unused_self, reason = "the shape of the Linux version")]
impl Orphanage {
    #[expect(clippy::unnecessary_wraps, reason = "the shape of the Linux version")]
    pub(super) fn open(&mut self) -> io::Result<()> {
        Ok(())
    }

    pub(super) fn reap(&self, _: &BTreeSet<u32>) {}

    pub(super) fn end_unclaimed(&self) -> usize {
        0
    }
}

pub(super) fn forget_gone(_: &mut BTreeSet<u32>) {}
