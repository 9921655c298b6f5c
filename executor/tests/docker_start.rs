//! Docker is away when the program starts: it waits and says for what, and judges the host as ever
//! once Docker is there.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::io::{BufRead as _, BufReader};
use std::path::PathBuf;
use std::process::{Child, Stdio};

use site::{Site, wait_until};

/// The program, looking for Docker where there is nothing yet.
struct Waiting {
    site: Site,
    socket: PathBuf,
    program: Child,
}

impl Waiting {
    fn start(env: &[(&str, &str)]) -> Self {
        let site = Site::new();
        std::fs::create_dir_all(site.folder()).expect("a folder");
        let socket = site.folder().join("docker.sock");
        let mut program = site.program("http://127.0.0.1:1", &["queue"]);
        program
            .env("DOCKER_HOST", format!("unix://{}", socket.display()))
            .envs(env.iter().copied())
            .stderr(Stdio::piped());
        let mut program = program.spawn().expect("starts");
        let mut log = BufReader::new(program.stderr.take().expect("a pipe")).lines();
        let says = |line: &std::io::Result<String>| {
            line.as_ref().is_ok_and(|line| line.contains("waiting for Docker"))
        };
        let line = log.find(says).expect("it says what it waits for").expect("a line");
        assert!(line.contains("Docker does not answer at unix://"), "{line}");
        std::thread::spawn(move || log.for_each(drop));
        Self { site, socket, program }
    }

    fn docker_comes(&self) {
        std::os::unix::fs::symlink("/var/run/docker.sock", &self.socket).expect("a link");
    }

    fn status(&mut self) -> Option<std::process::ExitStatus> {
        self.program.try_wait().expect("its state")
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

#[test]
fn an_executor_that_starts_before_docker_waits_for_it() {
    let mut waiting = Waiting::start(&[]);
    assert_eq!((waiting.status(), waiting.site.mood.enrolments()), (None, 0));
    waiting.docker_comes();
    wait_until("it enrols", || waiting.site.mood.enrolments() > 0);
    assert_eq!(waiting.status(), None);
}

#[test]
fn a_host_that_is_not_good_enough_is_refused_once_docker_answers() {
    let mut waiting = Waiting::start(&[("BULKHEAD_MIN_TIER", "3")]);
    waiting.docker_comes();
    wait_until("it gives up", || waiting.status().is_some());
    assert!(waiting.status().is_some_and(|status| !status.success()));
    assert_eq!(waiting.site.mood.enrolments(), 0, "nobody counts on it");
}
