//! Tasks of servers, under ids of Antiphon's.

use antiphon_tests::{Era, Host, Served, text_of};
use serde_json::json;

use crate::talk::{Wire, able_with_tasks, project, through};

#[test]
fn a_task_is_followed_answered_and_cancelled() {
    for wire in [Wire::Stdio, Wire::Http] {
        let mut way = through(false, wire, wire, Era::Modern, able_with_tasks());
        let made = way.call("confirm_delete", json!({ "filename": "a.txt" }));
        assert_eq!(made["result"]["resultType"], "task", "{made}");
        let task = made["result"]["taskId"].as_str().unwrap().to_owned();
        assert!(task.starts_with("passed."), "{task}");
        let waiting = way.host.poll(&task).unwrap();
        assert_eq!(waiting["status"], "input_required", "{waiting}");
        assert_eq!(waiting["taskId"], task.as_str());
        let answer = json!({ "confirm": { "action": "accept", "content": { "confirm": true } } });
        let ack = way.host.ask("tasks/update", json!({ "taskId": task, "inputResponses": answer }));
        assert!(ack["error"].is_null(), "{ack}");
        let done = way.host.poll(&task).unwrap();
        assert_eq!(text_of(&done["result"]), "deleted a.txt", "{done}");

        let made = way.call("slow_compute", json!({ "seconds": 60 }));
        let task = made["result"]["taskId"].as_str().unwrap().to_owned();
        way.host.ask("tasks/cancel", json!({ "taskId": task }));
        assert_eq!(way.host.poll(&task).unwrap()["status"], "cancelled");
    }
}

#[test]
fn a_task_is_its_owners_alone() {
    let (scratch, _upstream) = project(false, Wire::Stdio, "[serve]\nexpose = [\"conf.*\"]\nprefix = false\n");
    let mut command = scratch.with_db(&["serve", ".", "--trust", "--token", "ada=ADA", "--token", "eve=EVE"]);
    let served = Served::start(command.env("ADA", "ada-secret").env("EVE", "eve-secret"));
    let mut ada = Host::connect(&served.url, Some("ada-secret"), Era::Modern, able_with_tasks());
    let mut eve = Host::connect(&served.url, Some("eve-secret"), Era::Modern, able_with_tasks());
    let made = ada.call("slow_compute", json!({ "seconds": 60 }));
    let task = made["result"]["taskId"].as_str().unwrap();
    for method in ["tasks/get", "tasks/cancel"] {
        let refused = eve.ask(method, json!({ "taskId": task }));
        assert_eq!(refused["error"]["code"], -32602, "{method}: {refused}");
    }
    let own = ada.ask("tasks/get", json!({ "taskId": task }));
    assert_eq!(own["result"]["status"], "working", "{own}");
}
