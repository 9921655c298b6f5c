//! The program itself, between a real Temporal and a real Docker: a command survives a restart and
//! a crash of its executor, and a client's wish ends it.
#![allow(clippy::expect_used, missing_docs, unreachable_pub)]

mod engine;
mod site;

use domain::exec::ExecOutcome;
use engine::{Caller, Engine, Program, QUEUES};
use site::{Site, session, text, wait_until};

#[test]
fn a_command_survives_restart_and_crash_and_ends_when_called_off() {
    let (site, engine, session) = (Site::new(), Engine::start(), session());
    let program = Program::start(&site, &engine);
    wait_until("it has an id", || site.has_executor());
    let [shared, own] = QUEUES;

    let order = site.order(session, "echo hello");
    let reply = engine.reply(&engine.call(&site, &order, own));
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "hello\n");

    let script = "echo x >> /work/starts; echo a; until [ -e /work/go ]; do sleep 0.05; done; \
                  echo b; cat /work/starts";
    let order = site.order(session, script);
    let handle = engine.call(&site, &order, shared);
    site.wait_started(order.exec_id);
    program.stop();
    let program = Program::start(&site, &engine);
    let other = site.order(session, "true");
    engine.reply(&engine.call(&site, &other, own));
    drop(program);
    let program = Program::start(&site, &engine);
    let go = site.order(session, "touch /work/go");
    engine.reply(&engine.call(&site, &go, shared));
    let reply = engine.reply(&handle);
    assert_eq!(text(&site.result(order.exec_id, &reply).stdout), "a\nb\nx\n");

    let order = site.order(session, "echo partial; sleep 999");
    let handle = engine.call(&site, &order, own);
    site.wait_started(order.exec_id);
    let signal = handle.signal(Caller::call_off, (), Default::default());
    engine.runtime.block_on(signal).expect("signals");
    let result = site.result(order.exec_id, &engine.reply(&handle));
    assert_eq!(result.outcome, ExecOutcome::Cancelled);
    assert_eq!(text(&result.stdout), "partial\n");
    program.stop();
}
