//! The record of a task, with every field that clients read. Times are whole milliseconds: others break some of them.

use serde::Serialize;

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    #[serde(rename = "taskID")]
    pub task_id: u64,
    pub exec_id: String,
    pub stronger_exec_id: String,
    pub instance: String,
    /// Who submitted it.
    pub um_user: String,
    /// As whom it runs.
    pub execute_user: String,
    pub engine_instance: String,
    pub execution_code: Option<String>,
    /// `0.5`, as text.
    pub progress: String,
    pub log_path: String,
    pub result_location: String,
    pub status: &'static str,
    pub created_time: i64,
    pub updated_time: i64,
    pub engine_start_time: Option<i64>,
    pub engine_type: String,
    pub err_code: Option<i64>,
    pub err_desc: Option<String>,
    pub execute_application_name: String,
    /// What the label calls the creator.
    pub request_application_name: String,
    pub run_type: String,
    pub params_json: String,
    pub source_json: String,
    pub source_tailor: String,
    pub cost_time: i64,
    pub labels: Vec<String>,
    pub can_retry: bool,
    pub observe_info: Option<String>,
    pub is_reuse: Option<bool>,
    /// The account that the processes really have, where it is known.
    pub run_as: Option<String>,
}

impl Task {
    /// In whole thousandths, as Linkis has it.
    #[must_use]
    pub fn share(done: u64, total: u64) -> f64 {
        if total == 0 {
            return 0.0;
        }
        let thousandths = u32::try_from(u128::from(done) * 1000 / u128::from(total)).unwrap_or(1000).min(1000);
        f64::from(thousandths) / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares() {
        for (done, total, share) in [(0, 0, 0.0), (0, 3, 0.0), (1, 3, 0.333), (3, 3, 1.0), (u64::MAX, u64::MAX, 1.0)] {
            assert!((Task::share(done, total) - share).abs() < 1e-9, "{done}/{total}");
        }
    }
}
