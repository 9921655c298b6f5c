//! Settling: an exec that was called off ends and tells the truth, or never starts.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod site;

use domain::exec::ExecOutcome;
use protocol::exec::{NotStarted, ToolRequest};
use protocol::grant::GrantClaims;
use site::{Site, session, text, why};
use uuid::Uuid;

#[test]
fn a_settled_exec_that_never_started_never_does() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo x >> /work/count");
    let request = site.grant(&order);
    assert_eq!(why(&site, &life, &order, &site.settle(&order)), NotStarted::Cancelled);
    assert_eq!(site.containers(), Vec::<String>::new());
    assert_eq!(why(&site, &life, &order, &request), NotStarted::Cancelled);
    life.kill();
    let life = site.start();
    assert_eq!(why(&site, &life, &order, &request), NotStarted::Cancelled);
    assert_eq!(why(&site, &life, &order, &site.settle(&order)), NotStarted::Cancelled);
    let foreign = GrantClaims { executor_id: Uuid::now_v7().into(), ..site.claims(&order, -60) };
    let foreign =
        ToolRequest { grant: site.request(&order, &foreign).grant, ..site.settle(&order) };
    assert_eq!(why(&site, &life, &order, &foreign), NotStarted::GrantRefused);
}

#[test]
fn settling_a_finished_exec_gives_its_result_again() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo x");
    let result = site.run(&life, &order);
    let settle = site.settle(&order);
    assert_eq!(site.result(order.exec_id, &life.exec(&settle)), result);
    life.kill();
    let life = site.start();
    assert_eq!(site.result(order.exec_id, &life.exec(&settle)), result);
}

#[test]
fn settling_a_running_exec_ends_it_and_gives_the_truth() {
    let (site, session) = (Site::new(), session());
    let mut life = site.start();
    for restart in [false, true] {
        let order = site.order(session, "echo partial; sleep 999");
        let (task, _cancel) = life.begin(site.grant(&order));
        site.wait_started(order.exec_id);
        let task = if restart {
            life.kill();
            life = site.start();
            None
        } else {
            Some(task)
        };
        let result = site.result(order.exec_id, &life.exec(&site.settle(&order)));
        assert_eq!(result.outcome, ExecOutcome::Cancelled);
        assert_eq!(text(&result.stdout), "partial\n");
        if let Some(task) = task {
            assert_eq!(site.result(order.exec_id, &life.wait(task)), result);
        }
        assert_eq!(site.result(order.exec_id, &life.exec(&site.grant(&order))), result);
    }
}

#[test]
fn settling_while_the_sandbox_is_made_leaves_nothing_to_start() {
    let (site, session) = (Site::new(), session());
    let life = site.start();
    let order = site.order(session, "echo x");
    let request = site.grant(&order);
    let (task, _cancel) = life.begin(request.clone());
    let settled = site.report(order.exec_id, &life.exec(&site.settle(&order)));
    let run = site.report(order.exec_id, &life.wait(task));
    assert_eq!(run.outcome, settled.outcome);
    assert_eq!(site.report(order.exec_id, &life.exec(&request)).outcome, settled.outcome);
}
