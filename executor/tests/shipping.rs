//! Output on its way to a control plane that refuses it, and from a spool that was damaged: it
//! arrives, or is reported as lost. On a real Docker.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use std::path::PathBuf;
use std::time::Duration;

use domain::exec::ExecOutcome;
use domain::ids::ExecId;
use protocol::enrolment::LossReason;
use site::{Site, session, wait_until};

/// Prints this much on each stream, far more than a result holds.
const BYTES: usize = 1_000_000;
const BOTH: &str = "head -c 1000000 /dev/zero; head -c 1000000 /dev/zero >&2";

fn spool_file(site: &Site, exec_id: ExecId, stream: &str) -> PathBuf {
    site.folder().join(format!("data/spool/{exec_id}.{stream}"))
}

fn wait_shipped(site: &Site, exec_id: ExecId, stream: &str) {
    wait_until("its output arrives", || site.shipped(exec_id, stream).len() == BYTES);
}

#[test]
fn output_that_is_refused_for_a_while_arrives_whole() {
    let site = Site::new();
    let life = site.start();
    for status in [400, 404, 413, 418, 422, 429, 503] {
        let refused = site.mood.refusals();
        site.mood.refuse(Some(status));
        let order = site.order(session(), BOTH);
        assert_eq!(site.run(&life, &order).outcome, ExecOutcome::Exited);
        wait_until("it is refused", || site.mood.refusals() > refused + 2);
        site.mood.refuse(None);
        for stream in ["stdout", "stderr"] {
            wait_shipped(&site, order.exec_id, stream);
        }
        wait_until("the spool is empty", || site.spool_files() == 0);
        assert_eq!(site.mood.losses(order.exec_id), [], "{status}");
    }
}

#[test]
fn output_that_is_refused_for_good_is_reported_as_lost_and_kept_no_longer() {
    let mut site = Site::new();
    site.output_patience = Duration::from_millis(500);
    let life = site.start();
    site.mood.refuse(Some(422));
    let order = site.order(session(), BOTH);
    site.run(&life, &order);
    let lost = ["stdout", "stderr"].map(|stream| (stream.to_owned(), LossReason::Refused));
    wait_until("both are reported", || site.mood.losses(order.exec_id) == lost);
    wait_until("the spool is empty", || site.spool_files() == 0);
    site.mood.refuse(None);
    // Once: the next start has nothing to say of it.
    life.kill();
    let life = site.start();
    let next = site.order(session(), BOTH);
    site.run(&life, &next);
    wait_shipped(&site, next.exec_id, "stdout");
    assert_eq!(site.mood.losses(order.exec_id), lost);
    assert_eq!(site.shipped(order.exec_id, "stdout"), b"");
}

#[test]
fn a_session_that_was_moved_away_takes_its_output_along_at_once() {
    let site = Site::new();
    let life = site.start();
    site.mood.refuse(Some(410));
    site.mood.refuse_losses(Some(410));
    site.run(&life, &site.order(session(), BOTH));
    wait_until("the spool is empty", || site.spool_files() == 0);
}

#[test]
fn a_spool_that_is_gone_or_cut_is_reported_and_the_other_stream_arrives() {
    let site = Site::new();
    let life = site.start();
    for cut in [false, true] {
        site.mood.refuse(Some(503));
        let order = site.order(session(), BOTH);
        site.run(&life, &order);
        let file = spool_file(&site, order.exec_id, "stdout");
        match cut {
            true => std::fs::File::options().write(true).open(file).and_then(|it| it.set_len(9)),
            false => std::fs::remove_file(file),
        }
        .expect("it is there");
        site.mood.refuse(None);
        wait_shipped(&site, order.exec_id, "stderr");
        let lost = [("stdout".to_owned(), LossReason::Unreadable)];
        wait_until("it is reported", || site.mood.losses(order.exec_id) == lost);
        wait_until("the spool is empty", || site.spool_files() == 0);
    }
}

#[test]
fn a_loss_is_told_until_it_is_heard_over_restarts_too() {
    let mut site = Site::new();
    site.output_patience = Duration::from_millis(300);
    let life = site.start();
    site.mood.refuse(Some(422));
    // The first way of saying no may pass; the second is given up until the next start.
    site.mood.refuse_losses(Some(503));
    let order = site.order(session(), BOTH);
    site.run(&life, &order);
    let refused = site.mood.refusals();
    wait_until("it is told again and again", || site.mood.refusals() > refused + 8);
    site.mood.refuse_losses(Some(422));
    let refused = site.mood.refusals();
    wait_until("that is refused", || site.mood.refusals() > refused + 1);
    assert_eq!(site.spool_files(), 2, "nothing is dropped that nobody knows of");
    life.kill();
    site.mood.refuse_losses(None);
    let _life = site.start();
    wait_until("both are reported", || site.mood.losses(order.exec_id).len() == 2);
    wait_until("the spool is empty", || site.spool_files() == 0);
}
