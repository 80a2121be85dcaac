use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{JobError, JobSpec, Plan, Resolved};

const HEAD: &str = "specificationVersion: jobtemplate-2023-09\nname: A\n";
const RUN: &str = "  script:\n    actions:\n      onRun:\n        command: x\n";

const EXAMPLES: &[&str] = &[
    include_str!("../../../../examples/povray/animation.yaml"),
    include_str!("../../../../examples/blender/animation.yaml"),
    include_str!("../../../../examples/openjd/features.yaml"),
    include_str!("../../../../examples/openjd/expressions.yaml"),
];

fn plan_with(source: &str, parameters: &[(&str, &str)]) -> Result<Plan, JobError> {
    let parameters = parameters.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
    Plan::new(&JobSpec::template(source, parameters))
}

fn plan(source: &str) -> Plan {
    plan_with(source, &[]).expect(source)
}

fn sentence(source: &str, parameters: &[(&str, &str)]) -> String {
    plan_with(source, parameters).expect_err(source).to_string()
}

fn argv(resolved: &Resolved) -> Vec<&str> {
    resolved.argv.iter().map(|a| std::str::from_utf8(a).expect("text")).collect()
}

fn file<'a>(resolved: &'a Resolved, path: &str) -> &'a warrant::File {
    resolved.files.iter().find(|f| f.path == path.as_bytes()).expect(path)
}

/// A step whose only parameter is written as `definition`, and which is given it as an argument.
fn space(definition: &str) -> String {
    format!(
        "{HEAD}extensions: [TASK_CHUNKING]\nsteps:\n- name: a\n  parameterSpace:\n    taskParameterDefinitions:\n    - \
         {{name: Frame, {definition}}}\n{RUN}        args: [\"{{{{Task.Param.Frame}}}}\"]\n"
    )
}

/// Every template of the repository, those of other people as well.
#[test]
fn examples_are_good() {
    let examples = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples");
    let mut seen = 0;
    for folder in std::fs::read_dir(&examples).expect("examples") {
        for file in std::fs::read_dir(folder.expect("a folder").path()).into_iter().flatten() {
            let path = file.expect("a file").path();
            if path.extension().is_none_or(|e| e != "yaml") {
                continue;
            }
            let plan = plan(&std::fs::read_to_string(&path).expect("readable"));
            for (step, info) in (0u32..).zip(plan.steps()) {
                for index in 0..info.tasks {
                    let task = plan.task(step, index).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
                    assert!(!task.argv.is_empty());
                }
            }
            seen += 1;
        }
    }
    assert!(seen >= EXAMPLES.len(), "{seen}");
}

#[test]
fn a_million_frames_are_a_range() {
    let plan = plan(&space("type: INT, range: \"1-1000000\""));
    assert_eq!(plan.steps()[0].tasks, 1_000_000);
    assert_eq!(argv(&plan.task(0, 999_999).expect("last")), ["x", "1000000"]);
    assert_eq!(plan.frame(0, 41), Some(42));
    assert_eq!(plan.index_of_frame(0, 1_000_000), Some(999_999));
    assert_eq!(plan.index_of_frame(0, 0), None);
    assert_eq!(plan.index_of_frame(0, 1_000_001), None);
}

#[test]
fn frames_are_found_in_every_kind_of_space() {
    let stepped = plan(&space("type: INT, range: \"1-100:3,200,-5\""));
    assert_eq!(stepped.frame(0, 0), Some(-5));
    for index in 0..stepped.steps()[0].tasks {
        let frame = stepped.frame(0, index).expect("a frame");
        assert_eq!(stepped.index_of_frame(0, frame), Some(index), "{frame}");
    }
    assert_eq!(stepped.index_of_frame(0, 2), None);

    let listed = plan(&space("type: INT, range: [7, 3, 5]"));
    assert_eq!([7, 3, 5, 4].map(|f| listed.index_of_frame(0, f)), [Some(0), Some(1), Some(2), None]);

    let chunks = "chunks: {defaultTaskCount: 4, rangeConstraint: NONCONTIGUOUS}";
    let chunked = plan(&space(&format!("type: \"CHUNK[INT]\", range: \"1-9\", {chunks}")));
    assert_eq!((0..3).map(|i| chunked.params(0, i)[0].1.clone()).collect::<Vec<_>>(), ["1-3", "4-6", "7-9"]);
    assert_eq!([1, 5, 9, 10].map(|f| chunked.index_of_frame(0, f)), [Some(0), Some(1), Some(2), None]);

    let adaptive = "chunks: {defaultTaskCount: 4, targetRuntimeSeconds: 60, rangeConstraint: CONTIGUOUS}";
    let adaptive = plan(&space(&format!("type: \"CHUNK[INT]\", range: \"1-8,20\", {adaptive}")));
    assert_eq!(adaptive.steps()[0].tasks, 3, "chunks stay as written, whatever the run time is");
    assert_eq!(adaptive.params(0, 2), [("Frame".to_owned(), "20-20".to_owned())]);

    let features = plan(EXAMPLES[2]);
    assert_eq!(features.frame(0, 3), Some(2));
    assert_eq!(features.index_of_frame(0, 2), Some(2), "the first of the tasks with this frame");
    assert_eq!(features.frame(1, 0), None);
}

#[test]
fn parameters_and_spaces() {
    let plan = plan_with(EXAMPLES[2], &[("Frames", "10,20"), ("Who", "ada"), ("OutDir", "/srv/out")]).expect("good");
    assert_eq!(plan.name(), "features for ada");
    assert_eq!(plan.steps()[0].tasks, 4);
    let texts: Vec<Vec<String>> = (0..4).map(|i| plan.params(0, i).into_iter().map(|(_, v)| v).collect()).collect();
    assert_eq!(
        texts,
        [
            ["10", "red", "0.25", "ada-a.txt"],
            ["10", "green", "1.5", "ada-b.txt"],
            ["20", "red", "0.25", "ada-a.txt"],
            ["20", "green", "1.5", "ada-b.txt"],
        ]
    );
    let task = plan.task(0, 3).expect("good");
    assert_eq!(argv(&task), ["@STEAD_FILES@/step0/greet.sh", "20", "green", "1.5", "ada-b.txt"]);
    let script = file(&task, "step0/greet.sh");
    assert!(script.executable && script.data.starts_with(b"#!/bin/sh\n"));
    assert!(String::from_utf8_lossy(&script.data).contains("$GREETING, ada: frame"));
    assert_eq!((task.timeout_ms, task.grace_ms), (120_000, 2000));
    let env: Vec<_> = task.env.iter().map(|(n, v)| format!("{}={}", text(n), text(v))).collect();
    assert_eq!(env, ["GREETING=hello", "OUT=/srv/out", "PAINT=scale 0.5"]);
    assert_eq!((plan.steps()[0].cpus_milli, plan.steps()[0].memory), (Some(1000), Some(64 << 20)));
    assert_eq!((plan.steps()[1].depends_on.as_slice(), plan.step_by_name("count")), ([0].as_slice(), Some(1)));
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).expect("text")
}

#[test]
fn environments_in_order() {
    let plan = plan(EXAMPLES[2]);
    let environments = plan.environments(0);
    assert_eq!(environments.iter().map(|e| e.name.as_str()).collect::<Vec<_>>(), ["place", "notebook", "paint"]);
    assert_eq!(plan.environments(1).len(), 2);
    let [place, notebook, paint] = environments.as_slice() else { panic!("three") };
    assert_eq!((&place.enter, &place.exit), (&None, &None));
    assert_eq!(paint.variables, [("PAINT".to_owned(), "scale 0.5".to_owned())]);
    let enter = notebook.enter.as_ref().expect("enters");
    assert_eq!(argv(enter), ["sh", "@STEAD_FILES@/job-env1/enter.sh", "@STEAD_JOBDIR@"]);
    assert_eq!((enter.timeout_ms, enter.env.len()), (60_000, 2));
    assert!(file(enter, "job-env1/enter.sh").data.starts_with(b"# A line"));
    assert_eq!(notebook.exit.as_ref().map(|e| e.timeout_ms), Some(30_000));
}

#[test]
fn options_of_the_job_hold_as_well() {
    let mut spec = JobSpec::template(EXAMPLES[2], BTreeMap::new());
    spec.name = Some("mine".into());
    spec.cpus_milli = Some(500);
    spec.memory = Some(1 << 30);
    spec.time_limit_s = Some(10);
    let plan = Plan::new(&spec).expect("good");
    assert_eq!(plan.name(), "mine");
    assert_eq!((plan.steps()[0].cpus_milli, plan.steps()[0].memory), (Some(1000), Some(1 << 30)));
    assert_eq!((plan.steps()[1].cpus_milli, plan.steps()[1].memory), (Some(500), Some(1 << 30)));
    assert_eq!(plan.task(0, 0).expect("good").timeout_ms, 10_000, "the shorter of both limits");
    assert_eq!(plan.task(1, 0).expect("good").timeout_ms, 10_000);
}

#[test]
fn requirements_become_labels() {
    let step = "steps:\n- name: a\n  hostRequirements:\n    amounts:\n    - {name: amount.worker.vcpu, min: 1.5}\n    - \
                {name: amount.worker.memory, min: 0.5, max: 9}\n    - {name: amount.worker.gpu, min: 1}\n    - {name: \
                amount.licenses.nuke, min: 2}\n    - {name: amount.worker.disk.scratch, max: 5}\n    attributes:\n    - \
                {name: attr.worker.os.family, anyOf: [linux, macos]}\n    - {name: attr.room, allOf: [north]}\n";
    let mut spec = JobSpec::template(format!("{HEAD}{step}{RUN}"), BTreeMap::new());
    spec.requires = crate::Requires::parse("fast").expect("good");
    let plan = Plan::new(&spec).expect("good");
    let info = &plan.steps()[0];
    assert_eq!((info.cpus_milli, info.memory), (Some(1500), Some(512 << 10)));
    assert_eq!(info.requires.as_str(), "fast,gpu,licenses.nuke>=2,linux|macos,room=north");
}

#[test]
fn expressions_lists_and_short_scripts() {
    let plan = plan(EXAMPLES[3]);
    let task = plan.task(0, 0).expect("good");
    assert_eq!(argv(&task), ["bash", "@STEAD_FILES@/step0/chunks_script.sh", "1-5", "--quick", "--quiet"]);
    assert_eq!(task.timeout_ms, 120_000);
    assert!(text(&file(&task, "step0/chunks_script.sh").data).contains("; 10 is the middle;"));
    let named = plan.task(1, 0).expect("good");
    assert_eq!(
        argv(&named)[2..],
        ["mkdir -p \"$1\" && echo \"$2\" > \"$1/0020.txt\"", "sh", "@STEAD_JOBDIR@/named", "even"]
    );
}

#[test]
fn paths_stay_as_written() {
    let source = format!(
        "{HEAD}parameterDefinitions:\n- {{name: In, type: PATH, default: a/../scene.pov}}\n- {{name: Out, type: \
         PATH}}\nsteps:\n- name: a\n{RUN}        args: [\"{{{{Param.In}}}}\", \"{{{{RawParam.In}}}}\", \
         \"{{{{Param.Out}}}}/x\"]\n"
    );
    let plan = plan_with(&source, &[("Out", "out dir")]).expect("good");
    assert_eq!(argv(&plan.task(0, 0).expect("good")), ["x", "a/../scene.pov", "a/../scene.pov", "out dir/x"]);
}

#[test]
fn session_values_and_ends_of_lines() {
    let source = format!(
        "{HEAD}extensions: [FEATURE_BUNDLE_1]\nsteps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: x\n        args: \
         [\"{{{{Session.HasPathMappingRules}}}}\", \"{{{{Session.PathMappingRulesFile}}}}\", \
         \"{{{{Session.WorkingDirectory}}}}/y\"]\n    embeddedFiles:\n    - {{name: d, type: TEXT, data: \"a\\nb\\n\", \
         endOfLine: CRLF}}\n    - {{name: u, type: TEXT, data: \"a\\r\\nb\\n\", endOfLine: LF}}\n"
    );
    let task = plan(&source).task(0, 0).expect("good");
    assert_eq!(argv(&task), ["x", "false", "@STEAD_FILES@/path-mapping.json", "@STEAD_JOBDIR@/y"]);
    assert!(text(&file(&task, "path-mapping.json").data).contains("path_mapping_rules"));
    assert_eq!(file(&task, "step0/d").data, b"a\r\nb\r\n");
    assert_eq!(file(&task, "step0/u").data, b"a\nb\n");
    assert_eq!((task.timeout_ms, task.grace_ms), (0, 0), "nothing said: no limit, and killed at once");
}

#[test]
fn json_does_as_well() {
    let json = r#"{"specificationVersion": "jobtemplate-2023-09", "name": "J", "steps": [
        {"name": "a", "script": {"actions": {"onRun": {"command": "x"}}}}]}"#;
    assert_eq!(plan(json).name(), "J");
    let error = sentence(&json.replace("command", "comand"), &[]);
    assert!(error.starts_with("the template is not valid:\n  steps[0].script.actions.onRun: unknown field"), "{error}");
}

#[test]
fn made_anew_it_is_the_same() {
    for source in EXAMPLES {
        let (one, other) = (plan(source), plan(source));
        assert_eq!(one.steps(), other.steps());
        assert_eq!(one.task(0, 0), other.task(0, 0));
        assert_eq!(one.environments(0), other.environments(0));
    }
}

#[test]
fn what_is_wrong_is_said_with_path_and_line() {
    for (rest, expected) in [
        ("", "missing field `steps`"),
        ("steps: []\n", "must have at least one step"),
        (
            "steps:\n- name: a\n  script:\n    actions:\n      onRun:\n        comand: x\n",
            "steps[0].script.actions.onRun (line 7): unknown field `comand`, expected one of `command`, `args`, \
             `cancelation`, `timeout`",
        ),
        (
            "steps:\n- name: a\n  dependencies:\n  - dependsOn: b\n",
            "steps[0] (line 4): must have 'script' or a simple action field\n  steps[0].dependencies[0] (line 6): \
             dependency 'b' not found",
        ),
        (
            &format!("steps:\n- name: a\n  dependencies:\n  - dependsOn: b\n{RUN}"),
            "steps[0].dependencies[0] (line 6): dependency 'b' not found",
        ),
        (
            &format!("extensions: [WRAP_ACTIONS]\nsteps:\n- name: a\n{RUN}"),
            "extensions (line 3): Unsupported extension names: WRAP_ACTIONS (supported: EXPR, FEATURE_BUNDLE_1, \
             REDACTED_ENV_VARS, TASK_CHUNKING)",
        ),
        (
            &format!("steps:\n- name: a\n{RUN}- name: a\n{RUN}        timeout: 0\n"),
            "steps[1].name (line 9): duplicate step name: 'a'\n  steps[1].script.actions.onRun (line 12): timeout must \
             be > 0",
        ),
        (
            &format!(
                "jobEnvironments:\n- name: e\n  script:\n    actions:\n      onEnter: {{run: y}}\nsteps:\n- name: a\n{RUN}"
            ),
            "jobEnvironments[0].script.actions.onEnter (line 7): unknown field `run`, expected one of `command`, `args`, \
             `cancelation`, `timeout`",
        ),
    ] {
        let error = sentence(&format!("{HEAD}{rest}"), &[]);
        let expected: String = expected.lines().map(|line| format!("\n  {}", line.trim())).collect();
        assert_eq!(error, format!("the template is not valid:{expected}"));
    }
}

#[test]
fn other_template_errors() {
    let undefined = sentence(&format!("{HEAD}steps:\n- name: a\n{RUN}        args: [\"{{{{Param.X}}}}\"]\n"), &[]);
    assert!(undefined.contains("steps[0].script.actions.onRun.args[0] (line 9): "), "{undefined}");
    assert!(undefined.contains("Undefined variable: 'Param.X'"), "{undefined}");

    let syntax = sentence("a: [", &[]);
    assert!(syntax.starts_with("the template is neither YAML nor JSON: line 1 column 4: unclosed bracket"), "{syntax}");
    assert!(sentence("{", &[]).contains("EOF while parsing an object at line 1"), "{}", sentence("{", &[]));

    let given = [("Copies", "0"), ("Greeting", "hi"), ("Nobody", "1")];
    let error = sentence(EXAMPLES[2], &given);
    assert!(error.starts_with("the template's parameters don't fit:\n  "), "{error}");
    for part in ["'Copies'", "'Greeting'", "not defined in the template: Nobody"] {
        assert!(error.contains(part), "{part} in {error}");
    }

    let same = format!(
        "{HEAD}steps:\n- name: a\n{RUN}    embeddedFiles:\n    - {{name: F, type: TEXT, data: x}}\n    - {{name: G, type: TEXT, filename: F, data: y}}\n"
    );
    assert_eq!(
        sentence(&same, &[]),
        r#"step "a": the embedded files F and G have the same filename "F" (name one differently)"#
    );
    let nul = format!("{HEAD}steps:\n- name: a\n{RUN}        args: [\"a\\0b\"]\n");
    assert!(sentence(&nul, &[]).contains("NUL") || sentence(&nul, &[]).contains("control"), "{}", sentence(&nul, &[]));
    let marker = format!("{HEAD}steps:\n- name: a\n{RUN}        args: [\"@STEAD_\\x46ILES@\"]\n");
    assert_eq!(
        sentence(&marker, &[]),
        "the template contains @STEAD_FILES@, which Stead replaces by a folder of the host (write it differently)"
    );
    let marker = sentence(EXAMPLES[2], &[("Who", "@STEAD_JOBDIR@")]);
    assert!(marker.starts_with("the parameter Who contains @STEAD_JOBDIR@"), "{marker}");
    let large = sentence(&"#".repeat((1 << 20) + 1), &[]);
    assert_eq!(large, "the template has 1048577 bytes, at most 1048576 are allowed");
}

#[test]
fn ranges_that_overflow() {
    let tasks = space("type: INT, range: \"1-2000000000000\"");
    assert_eq!(sentence(&tasks, &[]), r#"step "a" has 2000000000000 tasks (1 to 1099511627776 are possible)"#);
    let digits = sentence(&space("type: INT, range: \"1-99999999999999999999\""), &[]);
    assert!(digits.starts_with("the template is not valid:\n  steps[0].parameterSpace"), "{digits}");
    let isolated = "type: \"CHUNK[INT]\", range: \"1-4000000000000000000:2\", chunks: {defaultTaskCount: 2, rangeConstraint: CONTIGUOUS}";
    assert_eq!(
        sentence(&space(isolated), &[]),
        "step \"a\" wants contiguous chunks of 2000000000000000000 values that don't follow each other (use \
         rangeConstraint NONCONTIGUOUS)"
    );
    let chunk = "type: \"CHUNK[INT]\", range: \"1-100000000\", chunks: {defaultTaskCount: 50000000, rangeConstraint: NONCONTIGUOUS}";
    assert_eq!(sentence(&space(chunk), &[]), r#"step "a" has chunks of 50000000 (1 to 100000 are possible)"#);
}

#[test]
fn a_yaml_bomb_is_refused() {
    let mut bomb = String::from("a0: &a0 [x, x, x, x, x, x, x, x, x]\n");
    for i in 1..12 {
        bomb += &format!("a{i}: &a{i} [{}]\n", vec![format!("*a{}", i - 1); 9].join(", "));
    }
    assert!(plan_with(&bomb, &[]).is_err());
    assert!(plan_with(&"[".repeat(100_000), &[]).is_err());
    assert!(plan_with(&format!("{{\"a\": {}", "[".repeat(100_000)), &[]).is_err());
}

/// An example with a few characters changed, lines moved or words exchanged.
fn damaged() -> impl Strategy<Value = String> {
    let words = prop::sample::select(vec![
        "{{",
        "}}",
        "|",
        "-1",
        "0",
        "null",
        "[]",
        "{}",
        "'",
        "\"",
        ":",
        "é",
        "99999999999999999999",
        "1-10:0",
        "*",
        "&a",
    ]);
    let source = prop::sample::select(EXAMPLES.to_vec());
    (source, prop::collection::vec((any::<prop::sample::Index>(), words, 0usize..12), 1..4)).prop_map(
        |(source, changes)| {
            let mut text: Vec<char> = source.chars().collect();
            for (at, word, removed) in changes {
                let at = at.index(text.len());
                let end = (at + removed).min(text.len());
                text.splice(at..end, word.chars());
            }
            text.into_iter().collect()
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn damaged_templates_never_panic(source in damaged(), frames in "[-0-9:, ]{0,10}") {
        for parameters in [&[][..], &[("Frames", frames.as_str())]] {
            if let Ok(plan) = plan_with(&source, parameters) {
                for (step, info) in (0u32..).zip(plan.steps()) {
                    prop_assert!(plan.task(step, info.tasks / 2).is_ok_and(|t| !t.argv.is_empty()));
                    let _ = (plan.params(step, info.tasks / 2), plan.index_of_frame(step, 3));
                }
            }
        }
    }
}

/// Hostile expressions end in an error, soon, and without taking the process along.
#[test]
fn expressions_are_bounded() {
    let deep = "(".repeat(5000);
    for expression in [
        "9223372036854775807 + 1",
        "(-9223372036854775807-1) // -1",
        "2 ** 100000",
        "'a' * 1000000000000",
        "string(Param.Last).zfill(100000000000)",
        "list(range_expr('1-1000000000000'))",
        "[0] * 100000000000",
        "1 % 0",
        "range_expr('1-é')",
        "__import__('os')",
        "'\\x00'",
        deep.as_str(),
    ] {
        let argument = serde_json::json!(format!("{{{{ {expression} }}}}"));
        let source = format!(
            "{HEAD}extensions: [EXPR]\nparameterDefinitions:\n- {{name: Last, type: INT, default: 3}}\nsteps:\n- name: \
             a\n{RUN}        args: [{argument}]\n"
        );
        assert!(matches!(plan_with(&source, &[]), Err(JobError::Template(_))), "{expression}");
    }
}

#[test]
fn what_expressions_yield_is_bounded() {
    let head = format!("{HEAD}extensions: [EXPR, FEATURE_BUNDLE_1]\n");
    let file = format!(
        "{head}steps:\n- name: a\n{RUN}    embeddedFiles:\n    - {{name: F, type: TEXT, data: \"{{{{ 'a' * 9000000 \
         }}}}\"}}\n"
    );
    assert_eq!(
        sentence(&file, &[]),
        r#"step "a": the embedded files have 9000000 bytes together, at most 8388608 are allowed"#
    );
    let scripts = |count: usize, size: usize| -> String {
        let one = |i| {
            format!(
                "- name: e{i}\n  script:\n    actions: {{onEnter: {{command: x}}}}\n    embeddedFiles:\n    \
                 - {{name: F, type: TEXT, data: \"{{{{ 'x' * {size} }}}}\"}}\n"
            )
        };
        (0..count).map(one).collect()
    };
    let steps = format!("steps:\n- name: a\n{RUN}");
    plan(&format!("{head}jobEnvironments:\n{}{steps}", scripts(2, 8_000_000)));
    let many = format!("{head}jobEnvironments:\n{}{steps}", scripts(5, 8_000_000));
    let (hint, limit) = ("let tasks read large files from a shared folder", "at most 16777216 are allowed");
    assert_eq!(
        sentence(&many, &[]),
        format!(
            "the batch of a single task would have 24000033 bytes or more, {limit} (the biggest part is environment \
             \"e0\" with 8000011; {hint})"
        )
    );
    let task = "    embeddedFiles:\n    - {name: F, type: TEXT, data: \"{{ 'x' * 2000000 }}\"}\n";
    let task = format!("{head}jobEnvironments:\n{}{steps}{task}", scripts(2, 7_500_000));
    let error = sentence(&task, &[]);
    assert!(error.contains("17000") && error.contains("environment \"e0\""), "{error}");
    let variables: Vec<String> = (0..20).map(|i| format!("V{i}: \"{{{{ 'a' * 120000 }}}}\"")).collect();
    let variables = format!(
        "{head}jobEnvironments:\n- name: e\n  variables: {{{}}}\nsteps:\n- name: a\n{RUN}",
        variables.join(", ")
    );
    let error = sentence(&variables, &[]);
    assert!(error.contains("exceeding the maximum of 2048") && error.ends_with("\n  and 10 more"), "{error}");
    let argument = format!("{head}steps:\n- name: a\n{RUN}        args: [\"{{{{ 'a' * 131072 }}}}\"]\n");
    assert!(sentence(&argument, &[]).starts_with("argument 1 has up to 131072 bytes"), "{}", sentence(&argument, &[]));
}
