//! What a store promises, whatever is beneath it.

mod common;

use common::*;
use job::{AttemptState, JobAction, JobState, TaskState};
use store::{
    AuditRef, JobFilter, NewJob, NewSession, NewStep, NewWorker, Purpose, SessionState, StoreError, TaskFilter,
};
use wire::{End, Report, SessionEnd};

#[tokio::test]
async fn a_job_goes_its_way() {
    let farm = Farm::fresh().await;
    let id = farm.submit(5).await;
    assert_eq!(farm.state(id).await, JobState::Pending);
    let ready = farm.store.ready(10, T0).await.expect("ready");
    assert_eq!((ready.len(), ready[0].job, ready[0].count), (1, id, 5));

    let (session, lease) = farm.open(id, 3).await;
    assert_eq!((lease.first, lease.last, lease.epoch), (0, 2, 1));
    assert_eq!(farm.state(id).await, JobState::Running);
    assert_eq!(farm.job(id).await.started_at, Some(T0));
    let mut reports = vec![started()];
    reports.extend(complete(&lease));
    let answer = farm.report(session, reports).await;
    assert_eq!((answer.through, answer.stale, answer.session_over), (4, 0, false));
    assert_eq!(answer.changed_jobs, [id]);
    farm.check(id).await;

    let more = farm.store.claim(session, 0, 10, T0).await.expect("claimed").expect("two left");
    assert_eq!((more.first, more.last), (3, 4));
    assert!(farm.store.claim(session, 0, 10, T0).await.expect("claimed").is_none());
    let answer = farm.report_at(session, 5, complete(&more), T0 + 9).await;
    assert_eq!(answer.finished_jobs, [id]);
    let answer = farm.report_at(session, 7, vec![over(SessionEnd::Left)], T0 + 10).await;
    assert!(answer.session_over);
    let job = farm.job(id).await;
    assert_eq!((job.state, job.ended_at, job.counts.complete), (JobState::Complete, Some(T0 + 9), 5));
    assert!(farm.store.ready(10, T0).await.expect("ready").is_empty());
    farm.check(id).await;

    let attempts = farm.store.attempts(id, 0, 4).await.expect("attempts");
    assert_eq!(attempts.len(), 1);
    assert_eq!((attempts[0].attempt, attempts[0].session, attempts[0].state), (1, session, AttemptState::Complete));
    assert_eq!((attempts[0].started_at, attempts[0].ended_at), (Some(T0 + 4), Some(T0 + 504)));
    assert_eq!((attempts[0].cpu_us, attempts[0].max_rss, attempts[0].exit_code), (400, 1 << 20, Some(0)));
    let row = farm.store.session(session).await.expect("read").expect("there");
    assert_eq!((row.state, row.run_as, row.cpu_us), (SessionState::Ended, Some(account()), 7));
    assert_eq!((row.attested_by.as_deref(), row.end.as_deref(), row.reported), (Some("launcher"), Some("left"), 7));
}

#[tokio::test]
async fn the_queue_has_an_order() {
    let farm = Farm::fresh().await;
    let low = farm.submit(1).await;
    let low2 = farm.store.submit(job(&[2, 3]), T0).await.expect("job");
    let high = farm.store.submit(NewJob { priority: 5, ..job(&[1]) }, T0).await.expect("job");
    let order: Vec<(u64, u32)> = farm.store.ready(10, T0).await.expect("r").iter().map(|r| (r.job, r.step)).collect();
    assert_eq!(order, [(high, 0), (low, 0), (low2, 0), (low2, 1)]);
    assert_eq!(farm.store.ready(10, T0).await.expect("r")[3].needs, "3 cores");
    assert_eq!(farm.store.ready(1, T0).await.expect("r").len(), 1);
}

#[tokio::test]
async fn a_million_tasks_cost_what_ten_cost() {
    let farm = Farm::fresh().await;
    let size = |farm: &Farm| std::fs::metadata(farm.dir.path().join("store.db-wal")).expect("wal").len();
    farm.submit(10).await;
    let before = size(&farm);
    farm.submit(10).await;
    let ten = size(&farm) - before;
    let id = farm.submit(1_000_000).await;
    assert_eq!(size(&farm) - before - ten, ten, "bytes written for a million tasks");
    assert_eq!(farm.store.ready(10, T0).await.expect("ready")[2].count, 1_000_000);
    let acted = farm.store.act(id, JobAction::Kill, None, None, T0).await.expect("killed");
    assert_eq!(acted.state, JobState::Killed);
    assert_eq!(farm.job(id).await.counts.killed, 1_000_000);
    let last = TaskFilter { first: 999_998, limit: 10, ..TaskFilter::default() };
    let tasks = farm.store.tasks(id, last).await.expect("tasks");
    assert_eq!(
        tasks.iter().map(|t| (t.index, t.state)).collect::<Vec<_>>(),
        [(999_998, TaskState::Killed), (999_999, TaskState::Killed)]
    );
}

#[tokio::test]
async fn a_request_is_one_job() {
    let farm = Farm::fresh().await;
    let asked = || NewJob { request_id: Some("r1".into()), ..job(&[1]) };
    let first = farm.store.submit(asked(), T0).await.expect("job");
    assert_eq!(farm.store.submit(asked(), T0).await.expect("job"), first);
    let other = NewJob { login_user: "bob".into(), ..asked() };
    assert_ne!(farm.store.submit(other, T0).await.expect("job"), first);
    // The same person as another user is another.
    let proxied = || NewJob { user: "render".into(), ..asked() };
    let second = farm.store.submit(proxied(), T0).await.expect("job");
    assert_ne!(second, first);
    assert_eq!(farm.store.submit(proxied(), T0).await.expect("job"), second);
    let of = async |user| farm.store.job_of_request(&asked().login_user, user, "r1").await.expect("read");
    assert_eq!([of(&asked().user).await, of("render").await, of("bob").await], [Some(first), Some(second), None]);
    assert_eq!(farm.store.jobs(JobFilter { limit: 10, ..JobFilter::default() }).await.expect("jobs").len(), 3);
}

#[tokio::test]
async fn what_cannot_be_a_job_is_refused() {
    let farm = Farm::fresh().await;
    let refuse = async |job: NewJob| farm.store.submit(job, T0).await.expect_err("refused");
    assert!(matches!(refuse(job(&[])).await, StoreError::NoSteps));
    assert!(matches!(refuse(job(&[1, 0])).await, StoreError::EmptyStep { .. }));
    assert!(matches!(refuse(job(&[u64::MAX, 3])).await, StoreError::TooLarge { .. }));
    assert!(matches!(refuse(after(job(&[1]), 99, true)).await, StoreError::NoSuchJob(99)));
    let mut ring = chain(&[1, 1]);
    ring.steps[0].depends_on = vec![1];
    assert!(matches!(refuse(ring).await, StoreError::BadDependency { .. }));
    let mut nowhere = chain(&[1]);
    nowhere.steps[0].depends_on = vec![7];
    assert!(matches!(refuse(nowhere).await, StoreError::BadDependency { on: 7, .. }));
    assert_eq!(farm.submit(1).await, 1, "nothing was kept of the refused ones");
}

// --- failures

#[tokio::test]
async fn a_failed_task_is_retried_as_often_as_asked() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(NewJob { retries: 1, ..job(&[3]) }, T0).await.expect("job");
    let (session, lease) = farm.open(id, 3).await;
    farm.report(session, vec![started(), exit(&lease, 0, 0), exit(&lease, 1, 3), exit(&lease, 2, 0)]).await;
    assert_eq!(farm.state(id).await, JobState::Running, "its session is there for the second try");
    farm.check(id).await;
    let again = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("retry");
    assert_eq!((again.first, again.last, again.epoch), (1, 1, 2));
    let answer = farm.report_at(session, 5, vec![ended(&again, 1, End::Signalled { signal: 11 })], T0).await;
    assert_eq!(answer.finished_jobs, [id]);
    let job = farm.job(id).await;
    let why = format!("1 of 3 tasks failed: {id}.1: killed by signal 11");
    assert_eq!((job.state, job.reason), (JobState::Failed, Some(why)));
    assert_eq!(farm.task(id, 1).await.reason.as_deref(), Some("killed by signal 11"));
    let attempts = farm.store.attempts(id, 0, 1).await.expect("attempts");
    let seen: Vec<_> = attempts.iter().map(|a| (a.attempt, a.state, a.exit_code, a.signal)).collect();
    assert_eq!(seen, [(1, AttemptState::Failed, Some(3), None), (2, AttemptState::Failed, None, Some(11))]);
    farm.check(id).await;

    // A person's retry begins to count anew.
    let acted = farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    assert_eq!(acted.state, JobState::Running);
    let third = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("retry");
    assert_eq!(third.epoch, 3);
    farm.report_at(session, 6, vec![exit(&third, 1, 1)], T0).await;
    let fourth = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("retry");
    farm.report_at(session, 7, vec![exit(&fourth, 1, 0)], T0).await;
    assert_eq!(farm.state(id).await, JobState::Complete);
    assert_eq!(farm.store.attempts(id, 0, 1).await.expect("attempts").len(), 4);
    farm.check(id).await;
}

#[tokio::test]
async fn every_end_of_a_task_has_its_reason() {
    let farm = Farm::fresh().await;
    let cannot = End::CannotStart { stage: "exec".into(), errno: 2, text: "no such file".into() };
    let cases = [
        (End::Exited { code: 7 }, "exit code 7"),
        (End::Signalled { signal: 9 }, "killed by signal 9"),
        (End::TimedOut, "time limit reached after 0 s"),
        (cannot, "could not start (exec): no such file"),
        (End::Failed { text: "openjd_fail: no licence".into() }, "openjd_fail: no licence"),
    ];
    for (end, reason) in cases {
        let id = farm.submit(1).await;
        let (session, lease) = farm.open(id, 1).await;
        farm.report(session, vec![started(), ended(&lease, 0, end)]).await;
        assert_eq!(farm.state(id).await, JobState::Failed);
        assert_eq!(farm.task(id, 0).await.reason.as_deref(), Some(reason));
    }
}

#[tokio::test]
async fn a_limit_of_processes_is_nobodys_failure() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let mut now = T0;
    for round in 1..=5 {
        let (session, lease) = farm.try_open(id, 0, 1, now).await.expect("its time has come");
        assert_eq!(lease.epoch, round);
        let limit = End::CannotStart { stage: "limit".into(), errno: 11, text: "no more processes".into() };
        let answer = farm.report_at(session, 1, vec![started(), ended(&lease, 0, limit)], now).await;
        let retry_at = answer.retry_at.expect("a time");
        assert!(retry_at > now, "not at once");
        farm.report_at(session, 3, vec![over(SessionEnd::Left)], now).await;
        assert_eq!(farm.state(id).await, JobState::Pending);
        now = retry_at;
    }
    assert_eq!(farm.store.attempts(id, 0, 0).await.expect("attempts").len(), 0, "nothing ran, nothing is used up");
    farm.check(id).await;
}

#[tokio::test]
async fn a_task_lost_three_times_has_failed() {
    let farm = Farm::fresh().await;
    let id = farm.submit(3).await;
    for round in 1..=3 {
        let (session, lease) = farm.open(id, 3).await;
        assert_eq!(lease.epoch, round, "the first one is lost each time");
        let answer = farm.store.session_lost(session, "host gone".into(), T0).await.expect("lost");
        assert!(answer.session_over);
        farm.check(id).await;
    }
    let task = farm.task(id, 0).await;
    assert_eq!(task.state, TaskState::Failed);
    assert_eq!(task.reason.as_deref(), Some("lost 3 times; the last time: the session was lost: host gone"));
    assert_eq!(farm.task(id, 1).await.epoch, 1, "the others never ran");
    assert_eq!(farm.job(id).await.counts.pending, 2);
}

#[tokio::test]
async fn the_end_of_a_session_is_charged_to_the_running_task() {
    let farm = Farm::fresh().await;
    let cases = [
        (SessionEnd::OutOfMemory, AttemptState::Failed, TaskState::Failed),
        (SessionEnd::Lost, AttemptState::Lost, TaskState::Pending),
        (SessionEnd::Signalled, AttemptState::Lost, TaskState::Pending),
        (SessionEnd::LeaseExpired, AttemptState::Lost, TaskState::Pending),
        (SessionEnd::Killed, AttemptState::Killed, TaskState::Pending),
        (SessionEnd::Left, AttemptState::Lost, TaskState::Pending),
    ];
    for (end, attempt, task) in cases {
        let id = farm.submit(3).await;
        let (session, lease) = farm.open(id, 3).await;
        farm.report(session, vec![started(), exit(&lease, 0, 0), begun(&lease, 1), over(end)]).await;
        let attempts = farm.store.attempts(id, 0, 1).await.expect("attempts");
        assert_eq!(attempts.iter().map(|a| (a.attempt, a.state)).collect::<Vec<_>>(), [(1, attempt)], "{end:?}");
        assert_eq!(farm.task(id, 1).await.state, task, "{end:?}");
        assert_eq!((farm.task(id, 2).await.state, farm.task(id, 2).await.epoch), (TaskState::Pending, 1));
        farm.check(id).await;
    }
}

#[tokio::test]
async fn a_session_that_left_in_order_charges_nobody() {
    let farm = Farm::fresh().await;
    let id = farm.submit(3).await;
    let (session, lease) = farm.open(id, 3).await;
    farm.report(session, vec![started(), exit(&lease, 0, 0), over(SessionEnd::Left)]).await;
    let (_, rest) = farm.open(id, 9).await;
    assert_eq!((rest.first, rest.last, rest.epoch), (1, 2, 1));

    // One that leaves without having done anything would do so for ever.
    let id = farm.submit(1).await;
    for _ in 0..3 {
        let (session, _) = farm.open(id, 1).await;
        farm.report(session, vec![started(), over(SessionEnd::Left)]).await;
    }
    assert_eq!(farm.state(id).await, JobState::Failed);
}

#[tokio::test]
async fn an_environment_that_fails_fails_the_task() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, _) = farm.open(id, 1).await;
    let environment = Report::EnvironmentEnded { name: "maya".into(), entered: true, end: End::Exited { code: 4 } };
    farm.report(session, vec![started(), environment, over(SessionEnd::Left)]).await;
    assert_eq!(farm.state(id).await, JobState::Failed);
    let reason = farm.task(id, 0).await.reason.expect("a reason");
    assert_eq!(reason, "environment maya could not be entered: exit code 4");
}

#[tokio::test]
async fn recalled_tasks_go_back_as_they_were() {
    let farm = Farm::fresh().await;
    let id = farm.submit(10).await;
    let (session, lease) = farm.open(id, 6).await;
    let tasks = (2..=5).map(|index| task(&lease, index)).collect();
    farm.report(session, vec![started(), exit(&lease, 0, 0), Report::Recalled { tasks, answers: 0 }]).await;
    farm.check(id).await;
    assert_eq!(farm.store.leases(session).await.expect("leases")[0].first, 1);
    let (_, next) = farm.open(id, 100).await;
    assert_eq!((next.first, next.last, next.epoch), (2, 9, 1), "joined with what was left");
}

// --- fencing and repetition

#[tokio::test]
async fn a_session_that_was_given_up_changes_nothing_any_more() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    let (old, lease) = farm.open(id, 2).await;
    let lost = farm.store.lost_sessions(T0 + 61 * SECOND).await.expect("clock");
    assert_eq!(lost.iter().map(|(s, _)| (s.id, s.state)).collect::<Vec<_>>(), [(old, SessionState::Lost)]);
    assert!(farm.store.lost_sessions(T0 + 61 * SECOND).await.expect("clock").is_empty(), "only once");
    assert!(farm.store.renew(&[old], T0 + 99 * SECOND).await.expect("renew").is_empty());
    assert!(farm.store.claim(old, 0, 1, T0).await.expect("claim").is_none());

    let (_, again) = farm.open(id, 1).await;
    assert_eq!((again.first, again.epoch), (0, 2));
    let before = (farm.job(id).await, farm.tasks(id).await);
    let answer =
        farm.report(old, vec![started(), exit(&lease, 0, 0), exit(&lease, 1, 0), over(SessionEnd::Left)]).await;
    assert_eq!((answer.through, answer.stale), (4, 2));
    assert!(answer.changed_jobs.is_empty());
    assert_eq!((farm.job(id).await, farm.tasks(id).await), before);
    let row = farm.store.session(old).await.expect("read").expect("there");
    assert_eq!((row.state, row.run_as), (SessionState::Lost, Some(account())), "but who ran is known");
}

#[tokio::test]
async fn the_front_of_a_lease_is_fenced_by_its_epoch() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, lease) = farm.open(id, 1).await;
    let wrong = store::Lease { epoch: 2, ..lease };
    let answer = farm.report(session, vec![started(), exit(&wrong, 0, 0)]).await;
    assert_eq!(answer.stale, 1);
    assert_eq!(farm.state(id).await, JobState::Running);
}

#[tokio::test]
async fn reports_are_stored_once_however_often_they_come() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(NewJob { retries: 9, ..job(&[6]) }, T0).await.expect("job");
    let (session, lease) = farm.open(id, 6).await;
    let all = vec![started(), exit(&lease, 0, 0), exit(&lease, 1, 1), exit(&lease, 2, 0), exit(&lease, 3, 0)];
    farm.report(session, all[..3].to_vec()).await;
    let answer = farm.report(session, all.clone()).await;
    assert_eq!((answer.through, answer.stale), (5, 0));
    let before = (farm.job(id).await, farm.tasks(id).await);
    for from in 0..all.len() {
        let answer =
            farm.report_at(session, us(i64::try_from(from).expect("small")) + 1, all[from..].to_vec(), T0).await;
        assert_eq!((answer.through, answer.stale), (5, 0));
    }
    let gap = farm.report_at(session, 7, vec![exit(&lease, 4, 0)], T0).await;
    assert_eq!(gap.through, 5, "says what is missing");
    assert_eq!((farm.job(id).await, farm.tasks(id).await), before);
    farm.check(id).await;
}

#[tokio::test]
async fn a_worker_speaks_only_of_its_own_sessions() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, lease) = farm.open(id, 1).await;
    let error = farm.store.report(session, "w2", 1, complete(&lease), T0).await.expect_err("refused");
    assert!(matches!(error, StoreError::NotYours { .. }));
    let error = farm.store.report(77, WORKER, 1, vec![], T0).await.expect_err("refused");
    assert!(matches!(error, StoreError::NoSuchSession(77)));
}

// --- refusals

#[tokio::test]
async fn a_refused_account_is_badlogin_once_and_for_all() {
    let farm = Farm::fresh().await;
    let id = farm.submit(5).await;
    let (refused_one, _) = farm.open(id, 2).await;
    let (other, other_lease) = farm.open(id, 2).await;
    let answer = farm.report(refused_one, vec![refused("bad_login")]).await;
    assert!(answer.session_over);
    let job = farm.job(id).await;
    assert_eq!((job.state, job.reason.as_deref(), job.ended_at), (JobState::Badlogin, Some("no: ask"), None));
    farm.check(id).await;
    farm.report(other, vec![started(), exit(&other_lease, 2, 0), over(SessionEnd::Killed)]).await;
    let job = farm.job(id).await;
    assert_eq!((job.state, job.counts.complete, job.counts.killed), (JobState::Badlogin, 1, 4));
    assert!(job.ended_at.is_some());
    let error = farm.store.act(id, JobAction::Retry, None, None, T0).await.expect_err("not retryable");
    assert!(matches!(error, StoreError::NotPossible(_)), "{error}");
    let error =
        farm.store.act_on_tasks(id, vec![(0, 0)], JobAction::Retry, None, None, T0).await.expect_err("nor singly");
    assert!(matches!(error, StoreError::JobIsOver { .. }));
    assert_eq!(farm.store.attempts(id, 0, 0).await.expect("attempts")[0].state, AttemptState::Badlogin);
    farm.check(id).await;
}

#[tokio::test]
async fn an_account_unknown_on_one_worker_excludes_the_pair() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    for kind in ["account", "local_policy"] {
        let (session, lease) = farm.open(id, 1).await;
        assert_eq!(lease.epoch, 1, "no epoch and no retry is used up");
        farm.report(session, vec![refused(kind)]).await;
        let exclusions = farm.store.exclusions().await.expect("read");
        assert_eq!(exclusions.len(), 1);
        assert_eq!((exclusions[0].worker.as_str(), exclusions[0].account.as_str()), (WORKER, "ada"));
        farm.store.clear_exclusions(WORKER).await.expect("cleared");
        assert!(farm.store.exclusions().await.expect("read").is_empty());
    }
    assert_eq!(farm.state(id).await, JobState::Pending);
}

#[tokio::test]
async fn what_passes_is_waited_for_longer_each_time() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let mut now = T0;
    for seconds in [1, 2, 4, 8, 16, 32, 60, 60] {
        let (session, lease) = farm.try_open(id, 0, 1, now).await.expect("ready");
        assert_eq!(lease.epoch, 1);
        let answer = farm.report_at(session, 1, vec![refused("transient")], now).await;
        let until = now + seconds * SECOND;
        assert_eq!(answer.retry_at, Some(until));
        assert!(farm.store.ready(9, until - 1).await.expect("ready").is_empty());
        assert!(farm.try_open(id, 0, 1, until - 1).await.is_none());
        assert_eq!(farm.store.next_retry(now).await.expect("read"), Some(until));
        now = until;
        assert_eq!(farm.store.ready(9, now).await.expect("ready").len(), 1);
    }
    let (session, _) = farm.try_open(id, 0, 1, now).await.expect("ready");
    farm.report_at(session, 1, vec![started(), over(SessionEnd::Lost)], now).await;
    assert!(farm.try_open(id, 0, 1, now).await.is_some(), "a start ends the back-off");
}

#[tokio::test]
async fn what_was_never_sent_is_no_try() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    let mut now = T0;
    for seconds in [1, 2, 4, 8, 16] {
        let (session, lease) = farm.try_open(id, 0, 2, now).await.expect("ready");
        assert_eq!((lease.first, lease.last, lease.epoch), (0, 1, 1), "as if nobody had taken it");
        let answer = farm.store.never_opened(session, "no room".into(), now).await.expect("given back");
        assert!(answer.session_over);
        assert_eq!(answer.retry_at, Some(now + seconds * SECOND));
        let row = farm.store.session(session).await.expect("read").expect("there");
        assert_eq!(row.end.as_deref(), Some("refused:not_sent"));
        assert_eq!(farm.store.attempts(id, 0, 0).await.expect("attempts"), vec![]);
        farm.check(id).await;
        now += seconds * SECOND;
    }
    assert_eq!(farm.state(id).await, JobState::Pending);
}

#[tokio::test]
async fn a_void_warrant_is_waited_out_too() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, _) = farm.open(id, 1).await;
    let answer = farm.report_at(session, 1, vec![refused("warrant")], T0).await;
    assert_eq!(answer.retry_at, Some(T0 + SECOND));
    assert!(farm.try_open(id, 0, 1, T0).await.is_none());
    assert_eq!(farm.try_open(id, 0, 1, T0 + SECOND).await.expect("ready").1.epoch, 1);
}

#[tokio::test]
async fn a_job_that_runs_has_its_next_retry_too() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    let (runs, _) = farm.open(id, 1).await;
    let (session, _) = farm.open(id, 1).await;
    farm.report_at(runs, 1, vec![started()], T0).await;
    let answer = farm.report_at(session, 1, vec![refused("transient")], T0).await;
    assert_eq!(farm.state(id).await, JobState::Running);
    assert!(answer.retry_at.is_some());
    assert_eq!(farm.store.next_retry(T0).await.expect("read"), answer.retry_at);
}

#[tokio::test]
async fn the_first_to_claim_a_value_keeps_it() {
    let farm = Farm::fresh().await;
    assert_eq!(farm.store.claim_meta("peer_uid/a", "7").await.expect("kept"), "7");
    assert_eq!(farm.store.claim_meta("peer_uid/a", "8").await.expect("kept"), "7");
    assert_eq!(farm.store.meta("peer_uid/a").await.expect("read").as_deref(), Some("7"));
}

#[tokio::test]
async fn a_launch_that_fails_three_times_fails_the_task() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    for round in 1..=3 {
        let now = T0 + i64::from(round) * 100 * SECOND;
        let (session, lease) = farm.try_open(id, 0, 2, now).await.expect("ready");
        assert_eq!((lease.first, lease.epoch), (0, round));
        farm.report_at(session, 1, vec![refused("stage")], now).await;
        farm.check(id).await;
    }
    let task = farm.task(id, 0).await;
    assert_eq!(task.state, TaskState::Failed);
    assert!(task.reason.expect("reason").contains("launch_failed:setgroups: no: ask"));
    let states: Vec<_> = farm.store.attempts(id, 0, 0).await.expect("attempts").iter().map(|a| a.state).collect();
    assert_eq!(states, [AttemptState::LaunchFailed; 3]);
    assert_eq!((farm.task(id, 1).await.state, farm.task(id, 1).await.epoch), (TaskState::Pending, 1));
}

#[tokio::test]
async fn a_void_warrant_costs_nothing() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, _) = farm.open(id, 1).await;
    let until = farm.report(session, vec![refused("warrant")]).await.retry_at.expect("a pause");
    assert_eq!(farm.try_open(id, 0, 1, until).await.expect("ready").1.epoch, 1, "no try is burnt");
}

// --- acts on jobs

#[tokio::test]
async fn kill_ends_what_waits_at_once_and_what_runs_when_it_is_gone() {
    let farm = Farm::fresh().await;
    let id = farm.submit(5).await;
    let (session, lease) = farm.open(id, 3).await;
    farm.report(session, vec![started(), exit(&lease, 0, 0), begun(&lease, 1)]).await;
    let audit = AuditRef { chain: "c".into(), sequence: 1, hash: [7; 32] };
    let acted = farm.store.act(id, JobAction::Kill, Some("by ada".into()), Some(audit), T0).await.expect("killed");
    assert_eq!((acted.state, acted.sessions.clone()), (JobState::Killed, vec![(session, WORKER.to_owned())]));
    assert_eq!(acted.running.iter().map(|t| t.index).collect::<Vec<_>>(), [1, 2]);
    assert!(acted.finished_jobs.is_empty(), "two are still alive");
    assert_eq!(farm.job(id).await.ended_at, None);
    farm.check(id).await;
    let answer = farm.report_at(session, 4, vec![ended(&lease, 1, End::Cancelled), over(SessionEnd::Killed)], T0).await;
    assert_eq!(answer.finished_jobs, [id]);
    let job = farm.job(id).await;
    assert_eq!((job.counts.complete, job.counts.killed, job.reason.as_deref()), (1, 4, Some("by ada")));
    let attempts = farm.store.attempts(id, 0, 1).await.expect("attempts");
    assert_eq!((attempts[0].state, attempts[0].reason.as_deref()), (AttemptState::Killed, Some("by ada")));
    assert!(farm.store.attempts(id, 0, 2).await.expect("attempts").is_empty(), "it never ran");
    assert_eq!(farm.store.audit_tail("c").await.expect("read"), Some((1, [7; 32])));
    let error = farm.store.act(id, JobAction::Kill, None, None, T0).await.expect_err("twice");
    assert!(matches!(error, StoreError::NotPossible(_)));
    farm.check(id).await;
}

#[tokio::test]
async fn what_completes_before_the_kill_reaches_it_is_complete() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let (session, lease) = farm.open(id, 1).await;
    farm.store.act(id, JobAction::Kill, None, None, T0).await.expect("killed");
    farm.report(session, vec![started(), exit(&lease, 0, 0)]).await;
    assert_eq!(farm.task(id, 0).await.state, TaskState::Complete);
    farm.check(id).await;
}

#[tokio::test]
async fn retry_after_kill_lets_the_dying_come_back() {
    let farm = Farm::fresh().await;
    let id = farm.submit(3).await;
    let (session, lease) = farm.open(id, 1).await;
    farm.store.act(id, JobAction::Kill, None, None, T0).await.expect("killed");
    let acted = farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    assert_eq!(acted.state, JobState::Running, "the dying one is still alive");
    farm.check(id).await;
    farm.report(session, vec![started(), ended(&lease, 0, End::Signalled { signal: 15 })]).await;
    assert_eq!((farm.task(id, 0).await.state, farm.task(id, 0).await.epoch), (TaskState::Pending, 2));
    assert_eq!(farm.task(id, 2).await.epoch, 2);
    farm.check(id).await;
}

#[tokio::test]
async fn a_complete_job_is_done_again_as_a_whole() {
    let farm = Farm::fresh().await;
    let id = farm.submit(4).await;
    let (session, lease) = farm.open(id, 4).await;
    farm.report(session, complete(&lease)).await;
    farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    farm.check(id).await;
    let again = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("all");
    assert_eq!((again.first, again.last, again.epoch), (0, 3, 2));
    farm.report_at(session, 5, complete(&again), T0).await;
    assert_eq!(farm.state(id).await, JobState::Complete);
    let attempts: Vec<u32> = farm.store.attempts(id, 0, 3).await.expect("a").iter().map(|a| a.attempt).collect();
    assert_eq!(attempts, [1, 2]);
    farm.check(id).await;
}

#[tokio::test]
async fn block_and_unblock() {
    let farm = Farm::fresh().await;
    let id = farm.submit(4).await;
    let (session, lease) = farm.open(id, 2).await;
    farm.report(session, vec![started(), begun(&lease, 0)]).await;
    let acted = farm.store.act(id, JobAction::Block, Some("wait".into()), None, T0).await.expect("blocked");
    assert_eq!((acted.state, acted.running.len()), (JobState::Blocked, 2));
    assert!(farm.store.ready(9, T0).await.expect("ready").is_empty());
    assert!(farm.store.claim(session, 0, 1, T0).await.expect("claim").is_none());
    let answer = farm.report_at(session, 3, vec![ended(&lease, 0, End::Cancelled), over(SessionEnd::Left)], T0).await;
    assert!(answer.finished_jobs.is_empty());
    let job = farm.job(id).await;
    assert_eq!((job.state, job.counts.blocked, job.reason.as_deref()), (JobState::Blocked, 4, Some("wait")));
    farm.check(id).await;
    farm.store.act(id, JobAction::Unblock, None, None, T0).await.expect("unblocked");
    assert_eq!(farm.job(id).await.counts.pending, 4);
    assert_eq!((farm.task(id, 0).await.epoch, farm.task(id, 1).await.epoch), (2, 1), "only what ran is another try");
    assert_eq!(farm.store.ready(9, T0).await.expect("ready").len(), 1);
    farm.check(id).await;

    let id = farm.store.submit(NewJob { blocked: Some("later".into()), ..job_of(1) }, T0).await.expect("job");
    assert_eq!((farm.state(id).await, farm.job(id).await.reason.as_deref()), (JobState::Blocked, Some("later")));
    assert!(farm.try_open(id, 0, 1, T0).await.is_none());
    farm.store.act(id, JobAction::Unblock, None, None, T0).await.expect("unblocked");
    assert!(farm.try_open(id, 0, 1, T0).await.is_some());
}

fn job_of(tasks: u64) -> NewJob {
    job(&[tasks])
}

#[tokio::test]
async fn suspend_and_resume() {
    let farm = Farm::fresh().await;
    let id = farm.submit(3).await;
    let error = farm.store.act(id, JobAction::Suspend, None, None, T0).await.expect_err("nothing runs");
    assert!(matches!(error, StoreError::NotPossible(_)));
    let (session, lease) = farm.open(id, 2).await;
    let acted = farm.store.act(id, JobAction::Suspend, None, None, T0).await.expect("suspended");
    assert_eq!((acted.state, acted.running.len(), acted.sessions.len()), (JobState::Suspended, 0, 1));
    let counts = farm.job(id).await.counts;
    assert_eq!((counts.suspended, counts.running, counts.pending), (2, 0, 1));
    assert_eq!(farm.task(id, 0).await.state, TaskState::Suspended);
    assert!(farm.store.ready(9, T0).await.expect("ready").is_empty());
    farm.check(id).await;
    farm.report(session, vec![started(), exit(&lease, 0, 0)]).await;
    assert_eq!(farm.state(id).await, JobState::Suspended, "one ended before the order came");
    let acted = farm.store.act(id, JobAction::Resume, None, None, T0).await.expect("resumed");
    assert_eq!(acted.state, JobState::Running);
    assert_eq!(farm.store.ready(9, T0).await.expect("ready").len(), 1);
    farm.check(id).await;
}

#[tokio::test]
async fn the_supervisors_own_acts() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    farm.store.set_reason(id, Some("no worker has label gpu".into())).await.expect("set");
    assert_eq!(farm.job(id).await.reason.as_deref(), Some("no worker has label gpu"));
    let (session, lease) = farm.open(id, 1).await;
    assert_eq!(farm.job(id).await.reason, None, "it runs");
    farm.store.set_reason(id, Some("late".into())).await.expect("set");
    assert_eq!(farm.job(id).await.reason, None, "not pending: not changed");
    let acted = farm.store.block_with_reason(id, "the grant ended".into(), T0).await.expect("blocked");
    assert_eq!((acted.state, acted.running.len()), (JobState::Blocked, 1));
    farm.report(session, vec![started(), ended(&lease, 0, End::Cancelled)]).await;
    let acted = farm.store.badlogin(id, "account locked".into(), T0).await.expect("badlogin");
    assert_eq!((acted.state, acted.finished_jobs), (JobState::Badlogin, vec![id]));
    let acted = farm.store.block_with_reason(id, "again".into(), T0).await.expect("nothing");
    assert_eq!((acted.state, acted.changed_jobs), (JobState::Badlogin, vec![]));
    farm.check(id).await;
}

// --- acts on tasks

#[tokio::test]
async fn tasks_are_acted_on_singly() {
    let farm = Farm::fresh().await;
    let id = farm.submit(6).await;
    let act = async |tasks: &[u64], action| {
        let tasks = tasks.iter().map(|t| (0, *t)).collect();
        farm.store.act_on_tasks(id, tasks, action, None, None, T0).await
    };
    act(&[1, 4], JobAction::Block).await.expect("blocked");
    act(&[2], JobAction::Kill).await.expect("killed");
    farm.check(id).await;
    let (session, lease) = farm.open(id, 9).await;
    assert_eq!((lease.first, lease.last), (0, 0));
    let more = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("3");
    assert_eq!((more.first, more.last), (3, 3));
    let last = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("5");
    let acted = act(&[3], JobAction::Kill).await.expect("asked");
    assert_eq!(acted.running.iter().map(|t| (t.session, t.index)).collect::<Vec<_>>(), [(session, 3)]);
    farm.check(id).await;
    let reports = vec![started(), exit(&lease, 0, 0), ended(&more, 3, End::Cancelled), exit(&last, 5, 0)];
    farm.report(session, reports).await;
    assert_eq!(farm.state(id).await, JobState::Blocked, "what is left is blocked");
    farm.check(id).await;

    assert!(matches!(act(&[0], JobAction::Unblock).await, Err(StoreError::NotPossible(_))));
    assert!(matches!(act(&[1, 6], JobAction::Unblock).await, Err(StoreError::NoSuchTask { index: 6, tasks: 6, .. })));
    assert_eq!(farm.task(id, 1).await.state, TaskState::Blocked, "all or none");
    let error = farm.store.act_on_tasks(id, vec![(3, 0)], JobAction::Kill, None, None, T0).await.expect_err("no step");
    assert!(matches!(error, StoreError::NoSuchStep { step: 3, .. }));

    act(&[1, 4], JobAction::Unblock).await.expect("unblocked");
    act(&[2, 3], JobAction::Retry).await.expect("retried");
    act(&[0], JobAction::Retry).await.expect("a complete one too");
    farm.check(id).await;
    let epochs: Vec<u32> = farm.tasks(id).await.iter().map(|t| t.epoch).collect();
    assert_eq!(epochs, [2, 1, 2, 2, 1, 1]);
    let mut number = 5;
    while let Some(lease) = farm.store.claim(session, 0, 9, T0).await.expect("claim") {
        number = farm.report_at(session, number, complete(&lease), T0).await.through + 1;
    }
    assert_eq!(farm.state(id).await, JobState::Complete);
    assert_eq!(farm.store.attempts(id, 0, 0).await.expect("a").len(), 2);
    farm.check(id).await;
}

#[tokio::test]
async fn one_of_many_complete_tasks_is_done_again() {
    let farm = Farm::fresh().await;
    let id = farm.submit(5).await;
    let (session, lease) = farm.open(id, 5).await;
    farm.report(session, complete(&lease)).await;
    let before = farm.store.attempts(id, 0, 4).await.expect("attempts");
    let acted = farm.store.act_on_tasks(id, vec![(0, 2)], JobAction::Retry, None, None, T0).await.expect("retried");
    assert_eq!(acted.state, JobState::Running);
    farm.check(id).await;
    assert_eq!(farm.store.attempts(id, 0, 4).await.expect("attempts"), before, "the others keep their history");
    assert_eq!(farm.store.attempts(id, 0, 2).await.expect("attempts").len(), 1);
    let again = farm.store.claim(session, 0, 9, T0).await.expect("claim").expect("one");
    assert_eq!((again.first, again.last, again.epoch), (2, 2, 2));
}

// --- steps and jobs that wait

#[tokio::test]
async fn a_step_waits_for_the_one_before() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(chain(&[2, 1]), T0).await.expect("job");
    assert!(farm.store.steps(id).await.expect("steps")[1].waiting);
    assert!(farm.try_open(id, 1, 1, T0).await.is_none());
    let (session, lease) = farm.open(id, 2).await;
    farm.report(session, vec![exit(&lease, 0, 0)]).await;
    assert!(farm.store.claim(session, 1, 1, T0).await.expect("claim").is_none());
    farm.report_at(session, 2, vec![exit(&lease, 1, 0)], T0).await;
    assert!(!farm.store.steps(id).await.expect("steps")[1].waiting);
    assert_eq!(farm.store.ready(9, T0).await.expect("ready")[0].step, 1);
    let next = farm.store.claim(session, 1, 1, T0).await.expect("claim").expect("step 1");
    farm.report_at(session, 3, complete(&next), T0).await;
    assert_eq!(farm.state(id).await, JobState::Complete);
    farm.check(id).await;

    // All over again: the second waits again.
    farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    assert!(farm.store.steps(id).await.expect("steps")[1].waiting);
    farm.check(id).await;
}

#[tokio::test]
async fn a_step_that_fails_ends_what_depends_on_it() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(chain(&[1, 2, 3]), T0).await.expect("job");
    let (session, lease) = farm.open(id, 1).await;
    let answer = farm.report(session, vec![exit(&lease, 0, 1)]).await;
    assert_eq!(answer.finished_jobs, [id]);
    let job = farm.job(id).await;
    assert_eq!((job.state, job.counts.failed, job.counts.blocked), (JobState::Failed, 1, 5));
    let why = format!("step step0 did not complete, and 5 tasks depend on it: {id}.step0.0: exit code 1");
    assert_eq!(job.reason, Some(why));
    farm.check(id).await;

    farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    assert_eq!(farm.job(id).await.counts.pending, 6);
    for step in 0..3 {
        let (session, lease) = farm.try_open(id, step, 9, T0).await.expect("ready");
        farm.report(session, complete(&lease)).await;
        farm.check(id).await;
    }
    assert_eq!(farm.state(id).await, JobState::Complete);
}

#[tokio::test]
async fn a_step_that_was_killed_ends_what_depends_on_it() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(chain(&[1, 2]), T0).await.expect("job");
    farm.store.act_on_tasks(id, vec![(0, 0)], JobAction::Kill, None, None, T0).await.expect("killed");
    let job = farm.job(id).await;
    assert_eq!((job.state, job.ended_at.is_some()), (JobState::Killed, true));
    farm.check(id).await;
    farm.store.act(id, JobAction::Retry, None, None, T0).await.expect("retried");
    assert_eq!(farm.state(id).await, JobState::Pending);
    farm.check(id).await;
}

#[tokio::test]
async fn independent_steps_go_on_when_one_fails() {
    let farm = Farm::fresh().await;
    let mut diamond = job(&[1, 1, 1]);
    diamond.steps.push(NewStep { name: "end".into(), tasks: 1, depends_on: vec![0, 1], ..NewStep::default() });
    let id = farm.store.submit(diamond, T0).await.expect("job");
    let (session, lease) = farm.open(id, 1).await;
    farm.report(session, vec![exit(&lease, 0, 1)]).await;
    assert_eq!(farm.state(id).await, JobState::Running, "two can still run, and the session is there");
    for step in [1, 2] {
        let (session, lease) = farm.try_open(id, step, 1, T0).await.expect("ready");
        farm.report(session, complete(&lease)).await;
    }
    assert_eq!(farm.state(id).await, JobState::Failed);
    farm.check(id).await;
}

#[tokio::test]
async fn a_job_waits_for_another() {
    let farm = Farm::fresh().await;
    let first = farm.submit(1).await;
    let strict = farm.store.submit(after(job(&[1]), first, false), T0).await.expect("job");
    let any = farm.store.submit(after(job(&[1]), first, true), T0).await.expect("job");
    for id in [strict, any] {
        let job = farm.job(id).await;
        assert_eq!((job.state, job.reason), (JobState::Pending, Some(format!("waits for job {first}"))));
        assert!(farm.try_open(id, 0, 1, T0).await.is_none());
    }
    let (session, lease) = farm.open(first, 1).await;
    let answer = farm.report(session, vec![exit(&lease, 0, 1)]).await;
    assert_eq!((answer.changed_jobs, answer.finished_jobs), (vec![first, strict, any], vec![first]));
    let job = farm.job(strict).await;
    assert_eq!(job.state, JobState::Blocked);
    assert!(job.reason.expect("reason").starts_with("job 1, which it waits for, ended failed"));
    assert_eq!(farm.job(any).await.reason, None);
    assert!(farm.try_open(any, 0, 1, T0).await.is_some());
    farm.store.act(strict, JobAction::Unblock, None, None, T0).await.expect("unblocked");
    assert!(farm.try_open(strict, 0, 1, T0).await.is_some(), "a person may run it all the same");

    let late = farm.store.submit(after(common::job(&[1]), first, false), T0).await.expect("job");
    assert_eq!(farm.state(late).await, JobState::Blocked);
    let late = farm.store.submit(after(common::job(&[1]), first, true), T0).await.expect("job");
    assert_eq!(farm.store.ready(9, T0).await.expect("ready")[0].job, late);
}

#[tokio::test]
async fn a_job_that_waits_goes_when_all_are_complete() {
    let farm = Farm::fresh().await;
    let (a, b) = (farm.submit(1).await, farm.submit(1).await);
    let mut both = after(job(&[1]), a, false);
    both.after.extend(after(job(&[1]), b, false).after);
    let id = farm.store.submit(both, T0).await.expect("job");
    assert_eq!(farm.job(id).await.reason, Some(format!("waits for job {a} and 1 more")));
    for (on, ready) in [(a, false), (b, true)] {
        let (session, lease) = farm.open(on, 1).await;
        farm.report(session, complete(&lease)).await;
        assert_eq!(farm.try_open(id, 0, 1, T0).await.is_some(), ready);
    }
}

#[tokio::test]
async fn a_killed_job_is_waited_for_until_nothing_of_it_lives() {
    let farm = Farm::fresh().await;
    let first = farm.submit(1).await;
    let next = farm.store.submit(after(job(&[1]), first, true), T0).await.expect("job");
    let (session, _) = farm.open(first, 1).await;
    farm.store.act(first, JobAction::Kill, None, None, T0).await.expect("killed");
    assert!(farm.try_open(next, 0, 1, T0).await.is_none());
    farm.report(session, vec![over(SessionEnd::Killed)]).await;
    assert!(farm.try_open(next, 0, 1, T0).await.is_some());
}

// --- lists, workers, meta, retention

#[tokio::test]
async fn lists_are_filtered_and_paged() {
    let farm = Farm::fresh().await;
    for n in 0..6 {
        let user = if n % 2 == 0 { "ada" } else { "bob" };
        let new = NewJob { login_user: user.into(), user: "render".into(), ..job(&[1]) };
        farm.store.submit(new, T0).await.expect("job");
    }
    farm.store.act(5, JobAction::Kill, None, None, T0).await.expect("killed");
    let ids = async |filter: JobFilter| -> Vec<u64> {
        farm.store.jobs(JobFilter { limit: 3, ..filter }).await.expect("jobs").iter().map(|j| j.id).collect()
    };
    assert_eq!(ids(JobFilter::default()).await, [6, 5, 4]);
    assert_eq!(ids(JobFilter { after: Some(4), ..JobFilter::default() }).await, [3, 2, 1]);
    assert_eq!(ids(JobFilter { login_user: Some("ada".into()), ..JobFilter::default() }).await, [5, 3, 1]);
    assert_eq!(
        ids(JobFilter { user: Some("render".into()), login_user: Some("bob".into()), ..JobFilter::default() }).await,
        [6, 4, 2]
    );
    assert!(ids(JobFilter { user: Some("ada".into()), ..JobFilter::default() }).await.is_empty());
    assert_eq!(ids(JobFilter { states: vec![JobState::Killed], ..JobFilter::default() }).await, [5]);
    assert_eq!(farm.job(1).await.spec, "{}");
}

#[tokio::test]
async fn tasks_are_filtered_and_paged_with_their_attempts() {
    let farm = Farm::fresh().await;
    let id = farm.store.submit(job(&[1000, 3]), T0).await.expect("job");
    let (session, lease) = farm.open(id, 500).await;
    let reports = (0..500).map(|index| exit(&lease, index, u8::from(index % 100 == 7))).collect();
    farm.report(session, reports).await;
    let filter = |states: &[TaskState], first, limit| TaskFilter {
        states: states.to_vec(),
        first,
        limit,
        ..TaskFilter::default()
    };
    let failed = farm.store.attempts_page(id, filter(&[TaskState::Failed], 100, 3)).await.expect("page");
    assert_eq!(failed.iter().map(|t| t.task.index).collect::<Vec<_>>(), [107, 207, 307]);
    assert!(failed.iter().all(|t| t.attempts.len() == 1 && t.attempts[0].state == AttemptState::Failed));
    let mixed = farm.store.attempts_page(id, filter(&[], 405, 4)).await.expect("page");
    let seen: Vec<_> = mixed.iter().map(|t| (t.task.index, t.task.state, t.attempts.len())).collect();
    assert_eq!(
        seen,
        [
            (405, TaskState::Complete, 1),
            (406, TaskState::Complete, 1),
            (407, TaskState::Failed, 1),
            (408, TaskState::Complete, 1)
        ]
    );
    let over_steps = farm.store.tasks(id, filter(&[TaskState::Pending], 998, 9)).await.expect("tasks");
    let seen: Vec<_> = over_steps.iter().map(|t| (t.step, t.index)).collect();
    assert_eq!(seen, [(0, 998), (0, 999), (1, 0), (1, 1), (1, 2)]);
    let second = TaskFilter { step: Some(1), limit: 2, ..TaskFilter::default() };
    assert_eq!(farm.store.tasks(id, second).await.expect("tasks").len(), 2);
    farm.check(id).await;
}

#[tokio::test]
async fn a_running_task_shows_its_attempt() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    let (session, lease) = farm.open(id, 2).await;
    let launching = farm.store.attempts(id, 0, 0).await.expect("attempts");
    assert_eq!((launching[0].state, launching[0].session), (AttemptState::Launching, session));
    farm.report(session, vec![started(), exit(&lease, 0, 0), begun(&lease, 1)]).await;
    let running = farm.store.attempts(id, 0, 1).await.expect("attempts");
    assert_eq!((running[0].state, running[0].started_at), (AttemptState::Running, Some(T0)));
    assert_eq!(farm.store.live_sessions(Some(WORKER)).await.expect("live").len(), 1);
    assert!(farm.store.live_sessions(Some("w2")).await.expect("live").is_empty());
}

#[tokio::test]
async fn workers_meta_and_logs_are_kept() {
    let farm = Farm::fresh().await;
    let worker = NewWorker {
        name: WORKER.into(),
        mode: "user".into(),
        proxy_account: None,
        slots: 4,
        labels: vec!["gpu".into(), "a \"b\"".into()],
        panic: None,
        hello: "{}".into(),
    };
    farm.store.upsert_worker(worker.clone(), T0).await.expect("kept");
    farm.store.set_drained(WORKER, true, None).await.expect("drained");
    farm.store.set_panic(WORKER, Some("no cgroup".into())).await.expect("panic");
    farm.store.upsert_worker(NewWorker { slots: 8, ..worker }, T0 + 1).await.expect("kept");
    farm.store.worker_seen(WORKER, T0 + 5).await.expect("seen");
    let row = farm.store.workers().await.expect("workers").remove(0);
    assert_eq!((row.slots, row.drained, row.last_seen, row.panic), (8, true, T0 + 5, None));
    assert_eq!(row.labels, ["gpu", "a \"b\""]);
    assert!(matches!(farm.store.set_drained("x", true, None).await, Err(StoreError::NoSuchWorker(_))));

    farm.store.set_meta("k", "1").await.expect("set");
    farm.store.set_meta("k", "2").await.expect("set");
    assert_eq!(farm.store.meta("k").await.expect("read").as_deref(), Some("2"));
    assert_eq!(farm.store.meta("none").await.expect("read"), None);

    let id = farm.submit(1).await;
    let (session, _) = farm.open(id, 1).await;
    farm.store.logged(session, 100).await.expect("logged");
    farm.store.logged(session, 50).await.expect("logged");
    assert_eq!(farm.store.session(session).await.expect("read").expect("there").logged, 100, "never goes back");
}

/// Between the two halves nothing can be leased: there is no between.
#[tokio::test]
async fn what_is_requeued_is_blocked_before_anything_can_start() {
    let farm = Farm::fresh().await;
    let id = farm.submit(3).await;
    let (session, lease) = farm.open(id, 3).await;
    farm.report_at(session, 1, complete(&lease), T0).await;
    let acted = farm.store.act(id, JobAction::Requeue, Some("by ada".into()), None, T0).await.expect("requeued");
    assert_eq!(acted.state, JobState::Blocked);
    let job = farm.job(id).await;
    assert_eq!((job.reason.as_deref(), job.counts.blocked), (Some("by ada"), 3));
    assert!(farm.store.ready(9, T0).await.expect("ready").is_empty());
    assert!(matches!(farm.store.act(id, JobAction::Requeue, None, None, T0).await, Err(StoreError::NotPossible(_))));
    assert!(farm.store.act_on_tasks(id, vec![(0, 0)], JobAction::Requeue, None, None, T0).await.is_err(), "no tasks");
    farm.check(id).await;
    farm.store.act(id, JobAction::Unblock, None, None, T0).await.expect("unblocked");
    assert_eq!(farm.store.ready(9, T0).await.expect("ready").len(), 1);
    farm.check(id).await;
}

#[tokio::test]
async fn what_is_removed_stays_over_until_it_goes() {
    let farm = Farm::fresh().await;
    let id = farm.submit(1).await;
    let remove = async || farm.store.remove_job(id, "by ada".into(), None, T0).await;
    assert!(matches!(remove().await, Err(StoreError::NotEnded(_))));
    farm.store.act(id, JobAction::Kill, None, None, T0).await.expect("killed");
    for _ in 0..2 {
        remove().await.expect("removed");
    }
    assert_eq!(farm.store.removals(9, None).await.expect("removals"), [id]);
    assert!(farm.store.removals(9, Some(id)).await.expect("removals").is_empty());
    assert!(farm.store.is_removed(id).await.expect("asked") && !farm.store.is_removed(id + 1).await.expect("asked"));
    assert_eq!(farm.job(id).await.reason.as_deref(), Some("by ada"));
    for action in [JobAction::Retry, JobAction::Requeue] {
        let error = farm.store.act(id, action, None, None, T0).await.expect_err("not any more");
        assert!(matches!(error, StoreError::Removed(_)), "{error}");
    }
    let error = farm.store.act_on_tasks(id, vec![(0, 0)], JobAction::Retry, None, None, T0).await;
    assert!(matches!(error, Err(StoreError::Removed(_))));
    farm.store.delete_job(id).await.expect("gone");
    assert!(farm.store.removals(9, None).await.expect("removals").is_empty());
}

#[tokio::test]
async fn old_jobs_go_and_their_ids_do_not_come_back() {
    let farm = Farm::fresh().await;
    let (old, young) = (farm.submit(3).await, farm.submit(1).await);
    let (session, lease) = farm.open(old, 3).await;
    farm.report_at(session, 1, complete(&lease), T0).await;
    assert!(matches!(farm.store.delete_job(young).await, Err(StoreError::NotEnded(_))));
    assert_eq!(farm.store.retire_jobs(T0 + 1, 10).await.expect("old"), [old]);
    let clean = store::NewSession { purpose: Purpose::Clean, ..common::session(old) };
    let errand = farm.store.open_errand(clean, T0).await.expect("errand");
    let answer = farm.report(errand, vec![Report::Cleaned { job: old }, over(SessionEnd::Left)]).await;
    assert_eq!((answer.cleaned, answer.session_over), (vec![old], true));
    assert_eq!(farm.state(old).await, JobState::Complete);
    farm.store.act(young, JobAction::Kill, None, None, T0).await.expect("killed");
    farm.store.delete_job(young).await.expect("deleted");
    farm.store.delete_job(old).await.expect("deleted");
    assert!(farm.store.job(old).await.expect("read").is_none());
    assert!(farm.store.sessions(old).await.expect("read").is_empty());
    assert!(farm.submit(1).await > young);
    assert!(farm.open(3, 1).await.0 > errand, "nor do session ids");
}

#[tokio::test]
async fn an_audit_record_belongs_to_one_act() {
    let farm = Farm::fresh().await;
    let audit = |n| Some(AuditRef { chain: "main".into(), sequence: n, hash: [3; 32] });
    let id = farm.store.submit(NewJob { audit: audit(1), ..job(&[1]) }, T0).await.expect("job");
    let error = farm.store.act(id, JobAction::Kill, None, audit(1), T0).await.expect_err("taken");
    assert!(matches!(error, StoreError::AuditTaken { sequence: 1, .. }));
    assert_eq!(farm.state(id).await, JobState::Pending, "the act is undone too");
    farm.store.act(id, JobAction::Kill, None, audit(2), T0).await.expect("killed");
    assert_eq!(farm.store.audit_tail("main").await.expect("read"), Some((2, [3; 32])));
    assert_eq!(farm.store.audited("main", 1).await.expect("read"), Some([3; 32]));
    assert_eq!(farm.store.audited("main", 3).await.expect("read"), None);
}

#[tokio::test]
async fn changes_at_once_are_each_carried_out() {
    let farm = Farm::fresh().await;
    let mut all = tokio::task::JoinSet::new();
    for n in 0..200 {
        let store = farm.store.clone();
        // Every tenth is refused: it takes no other with it.
        let new = if n % 10 == 0 { job(&[]) } else { job(&[n]) };
        all.spawn(async move { store.submit(new, T0).await });
    }
    let results = all.join_all().await;
    assert_eq!(results.iter().filter(|r| r.is_ok()).count(), 180);
    let jobs = farm.store.jobs(JobFilter { limit: 1000, ..JobFilter::default() }).await.expect("jobs");
    let mut kept: Vec<u64> = jobs.iter().map(|j| j.id).collect();
    let mut acknowledged: Vec<u64> = results.into_iter().filter_map(Result::ok).collect();
    kept.sort_unstable();
    acknowledged.sort_unstable();
    assert_eq!(kept, acknowledged);
}

// --- what happens at once

/// While a job runs, a page is of one moment: every task once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_is_of_one_moment() {
    const TASKS: u64 = 300;
    let farm = Farm::fresh().await;
    let id = farm.submit(TASKS).await;
    let (session, first) = farm.open(id, 1).await;
    let store = farm.store.clone();
    let running = tokio::spawn(async move {
        let (mut lease, mut next) = (first, 1);
        loop {
            let reports: Vec<_> = [begun(&lease, lease.first)].into_iter().chain(complete(&lease)).collect();
            let n = reports.len() as u64;
            store.report(session, WORKER, next, reports, T0).await.expect("reported");
            next += n;
            match store.claim(session, 0, 3, T0).await.expect("claimed") {
                Some(more) => lease = more,
                None => return,
            }
        }
    });
    let all = TaskFilter { limit: 1000, ..TaskFilter::default() };
    let mut pages = 0;
    while !running.is_finished() {
        let page = farm.store.attempts_page(id, all.clone()).await.expect("a page");
        let indices: Vec<u64> = page.iter().map(|t| t.task.index).collect();
        assert_eq!(indices, (0..TASKS).collect::<Vec<_>>(), "each task once");
        for task in page.iter().filter(|t| t.task.state == TaskState::Complete) {
            assert_eq!(task.attempts.len(), 1, "{task:?}");
        }
        pages += 1;
    }
    running.await.expect("it ran");
    assert!(pages > 5, "the job ran too fast to be looked at: {pages} pages");
}

#[tokio::test]
async fn a_job_runs_as_long_as_a_session_is_there_for_its_work() {
    let farm = Farm::fresh().await;
    let id = farm.submit(4).await;
    let (session, lease) = farm.open(id, 1).await;
    let (other, second) = farm.open(id, 1).await;
    farm.report(session, vec![started(), exit(&lease, 0, 0)]).await;
    farm.report(other, vec![started(), exit(&second, 1, 0)]).await;
    let job = farm.job(id).await;
    assert_eq!((job.state, job.counts.running, job.counts.pending), (JobState::Running, 0, 2), "between two batches");
    let acted = farm.store.act(id, JobAction::Suspend, None, None, T0).await.expect("can be suspended");
    assert_eq!((acted.state, acted.sessions.len()), (JobState::Suspended, 2));
    let acted = farm.store.act(id, JobAction::Resume, None, None, T0).await.expect("resumed");
    assert_eq!(acted.state, JobState::Running);
    farm.report_at(session, 3, vec![over(SessionEnd::Left)], T0).await;
    assert_eq!(farm.state(id).await, JobState::Running, "one is left");
    farm.store.session_lost(other, "gone".into(), T0).await.expect("lost");
    assert_eq!(farm.state(id).await, JobState::Pending);
    // Said again, it is not over twice.
    farm.store.session_lost(other, "gone".into(), T0).await.expect("lost");
    let (third, lease) = farm.open(id, 2).await;
    farm.report(third, vec![started(), exit(&lease, 2, 0)]).await;
    farm.report_at(third, 3, vec![refused("transient"), over(SessionEnd::Left)], T0).await;
    assert_eq!(farm.state(id).await, JobState::Pending);
    // An errand is no work.
    let errand = NewSession { purpose: Purpose::Clean, ..common::session(id) };
    farm.store.open_errand(errand, T0).await.expect("opened");
    assert_eq!(farm.state(id).await, JobState::Pending);
    farm.check(id).await;
}

#[tokio::test]
async fn what_is_needed_to_take_leave_of_a_session_is_kept() {
    let farm = Farm::fresh().await;
    let id = farm.submit(9).await;
    let (session, _) = farm.open(id, 1).await;
    let row = async || farm.store.session(session).await.expect("read").expect("there");
    assert_eq!((row().await.batches, row().await.entered), (0, vec![]));
    farm.store.enters(session, &[0, 3]).await.expect("noted");
    farm.report(session, vec![started(), Report::BatchDone { sequence: 2 }, Report::BatchDone { sequence: 1 }]).await;
    assert_eq!((row().await.batches, row().await.entered), (2, vec![0, 3]));
}

#[tokio::test]
async fn an_environment_that_was_recalled_has_not_failed() {
    let farm = Farm::fresh().await;
    let id = farm.submit(2).await;
    let (session, lease) = farm.open(id, 1).await;
    let recalled = End::CannotStart { stage: "recalled".into(), errno: 0, text: "it was recalled".into() };
    let environment = Report::EnvironmentEnded { name: "house".into(), entered: true, end: recalled };
    let back = Report::Recalled { tasks: vec![task(&lease, 0)], answers: 0 };
    farm.report(session, vec![started(), environment, back, over(SessionEnd::Left)]).await;
    assert_eq!(farm.task(id, 0).await.state, TaskState::Pending);
    assert_eq!(farm.store.session(session).await.expect("read").expect("there").reason, None);
}

#[tokio::test]
async fn what_was_asked_of_a_session_can_be_asked_again() {
    let farm = Farm::fresh().await;
    let id = farm.submit(6).await;
    let (session, _) = farm.open(id, 4).await;
    assert!(farm.store.asked(session).await.expect("read").is_empty());
    farm.store.act_on_tasks(id, vec![(0, 2), (0, 5)], JobAction::Kill, None, None, T0).await.expect("killed");
    let asked = farm.store.asked(session).await.expect("read");
    let seen: Vec<_> = asked.iter().map(|t| (t.session, t.worker.as_str(), t.step, t.index, t.epoch)).collect();
    assert_eq!(seen, [(session, WORKER, 0, 2, 1)]);
}

#[tokio::test]
async fn the_queue_is_read_in_pages() {
    let farm = Farm::fresh().await;
    for priority in [0, 5, 0, 5, -3, 0, 5] {
        farm.store.submit(NewJob { priority, ..job(&[1, 1]) }, T0).await.expect("job");
    }
    let whole = farm.store.ready(100, T0).await.expect("all");
    assert_eq!(whole.len(), 14);
    for size in [1, 3, 4, 14] {
        let mut pages = Vec::new();
        let mut after = None;
        loop {
            let page = farm.store.ready_after(size, after, T0).await.expect("a page");
            let Some(last) = page.last() else { break };
            assert!(page.len() <= size);
            after = Some(last.at());
            pages.extend(page);
        }
        assert_eq!(pages, whole, "in pages of {size}");
    }
}
