use crate::*;
use std::collections::BTreeMap;

#[test]
fn explore() {
    let base = "specificationVersion: jobtemplate-2023-09\nname: A\n";
    for t in [
        "",
        "[1,2]",
        "{",
        "a: [",
        "a: b\n c: d\n",
        "name: A\n",
        "specificationVersion: x\n",
        &format!("{base}"),
        &format!("{base}steps: []\n"),
        &format!("{base}steps:\n- name: a\n  scrip: x\n"),
        &format!("{base}steps:\n- name: a\n  script:\n    actions:\n      onRun:\n        comand: x\n"),
        &format!(
            "{base}steps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: \"{{{{Param.X}}}}\"\n"
        ),
        &format!("{base}steps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: \"{{{{Param.X\"\n"),
        &format!(
            "{base}steps:\n- name: a\n  dependencies:\n  - dependsOn: b\n  script:\n    actions:\n      onRun:\n        command: x\n"
        ),
        &format!(
            "{base}steps:\n- name: a\n  parameterSpace:\n    taskParameterDefinitions:\n    - name: F\n      type: INT\n      range: 1-x\n  script:\n    actions:\n      onRun:\n        command: x\n"
        ),
        &format!(
            "{base}steps:\n- name: a\n  parameterSpace:\n    taskParameterDefinitions:\n    - name: F\n      type: INTT\n      range: 1-3\n  script:\n    actions:\n      onRun:\n        command: x\n"
        ),
        &format!(
            "{base}extensions: [WRAP_ACTIONS]\nsteps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: x\n"
        ),
        &format!(
            "{base}steps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: x\n        timeout: 0\n- name: a\n  script:\n    actions:\n      onRun:\n        command: x\n        args: [3]\n"
        ),
        &format!(
            "{base}parameterDefinitions:\n- name: N\n  type: INT\n  maxValue: 3\n- name: M\n  type: STRING\nsteps:\n- name: a\n  script:\n    actions:\n      onRun:\n        command: x\n"
        ),
    ] {
        let e = Plan::new(&JobSpec::template(t, BTreeMap::from([("N".into(), "5".into()), ("Z".into(), "1".into())])));
        println!("=====\n{t}\n-----\n{}", e.map(|_| String::new()).unwrap_or_else(|e| e.to_string()));
    }
}
