//! Results that could not be told at once are told until they are heard, by the next life of the
//! executor too, without being asked by a workflow.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use axum::http::StatusCode;
use domain::exec::ExecOutcome;
use site::{Site, session, text, wait_until};

#[test]
fn a_result_that_nobody_took_is_reported_by_the_next_life_and_once_only() {
    let site = Site::new();
    let life = site.start();
    site.calls.refuse_results(Some(StatusCode::SERVICE_UNAVAILABLE));
    let order = site.order(session(), "echo told");
    let result = site.run(&life, &order);
    wait_until("it was tried", || site.calls.result_refusals() >= 2);
    assert!(site.reported(order.exec_id).is_empty());
    life.kill();

    let life = site.start();
    let before = site.calls.result_refusals();
    wait_until("it is tried again and again", || site.calls.result_refusals() > before + 2);
    site.calls.refuse_results(None);
    wait_until("it is reported", || site.reported(order.exec_id) == [result.clone()]);
    let next = site.order(session(), "true");
    site.run(&life, &next);
    wait_until("so is the next", || !site.reported(next.exec_id).is_empty());
    life.kill();

    let life = site.start();
    let last = site.order(session(), "true");
    site.run(&life, &last);
    wait_until("so is the last", || !site.reported(last.exec_id).is_empty());
    assert_eq!(site.reported(order.exec_id).len(), 1, "no third life repeats it");
}

#[test]
fn a_result_that_is_refused_for_now_is_offered_again_in_the_same_life() {
    let site = Site::new();
    let life = site.start();
    site.calls.refuse_results(Some(StatusCode::SERVICE_UNAVAILABLE));
    let orders = [0; 3].map(|_| site.order(session(), "echo told"));
    let results = orders.each_ref().map(|order| site.run(&life, order));
    // Two tries of each, and then some.
    wait_until("it is tried again", || site.calls.result_refusals() >= 8);
    site.calls.refuse_results(None);
    for (order, result) in orders.iter().zip(results) {
        wait_until("it is reported", || site.reported(order.exec_id) == [result.clone()]);
    }
}

#[test]
fn a_command_that_ran_on_is_reported_at_its_end_although_nobody_asks() {
    let site = Site::new();
    let life = site.start();
    let order = site.order(session(), "until test -e go; do sleep 0.05; done; echo went");
    let (task, _cancel) = life.begin(site.grant(&order));
    site.wait_started(order.exec_id);
    life.kill();
    drop(task);

    let life = site.start();
    site.run(&life, &site.order(order.session_id, "touch go"));
    wait_until("it is reported", || !site.reported(order.exec_id).is_empty());
    let [result] = &site.reported(order.exec_id)[..] else { panic!("one result") };
    assert_eq!((result.outcome, text(&result.stdout)), (ExecOutcome::Exited, "went\n".into()));
}

#[test]
fn a_result_that_is_refused_for_good_is_not_offered_for_ever() {
    let site = Site::new();
    let life = site.start();
    site.calls.refuse_results(Some(StatusCode::NOT_FOUND));
    let order = site.order(session(), "true");
    site.run(&life, &order);
    wait_until("it was tried", || site.calls.result_refusals() == 1);
    site.run(&life, &site.order(session(), "true"));
    wait_until("so was the next", || site.calls.result_refusals() == 2);
    life.kill();
    site.calls.refuse_results(None);

    let life = site.start();
    let last = site.order(session(), "true");
    site.run(&life, &last);
    wait_until("the last is reported", || !site.reported(last.exec_id).is_empty());
    assert!(site.reported(order.exec_id).is_empty());
}
