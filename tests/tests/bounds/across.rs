//! Two processes: one serves, and is a server of the other.

use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use antiphon_tests::model::{calls, says, system};
use antiphon_tests::{Era, Host, Model, Scratch, Served};
use serde_json::json;

use crate::{ANSWER_TOKENS, DONE, FAILED, errors, in_one_line, model, run};

/// How a process reaches the other one.
fn reached(there: &Scratch, over_http: bool) -> (String, Option<Served>) {
    match over_http {
        false => (there.as_server(), None),
        true => {
            let served = Served::start(&mut there.with_db(&["serve", ".", "--trust"]));
            (format!("url = {:?}\n", served.url), Some(served))
        }
    }
}

#[test]
fn agents_that_may_call_each_other_stop_at_the_bound_and_show_the_way() {
    for over_http in [false, true] {
        let thinks = Model::start(|request| {
            let other = if system(request) == "You write." { "there__ask_critic" } else { "here__ask_writer" };
            calls(&[(other, json!({ "prompt": "What do you say?" }))])
        });
        let (here, there) = (Scratch::new(), Scratch::new());
        let agent = |name: &str, instructions: &str, grant: &str| {
            format!("[agents.{name}]\ninstructions = {instructions:?}\nmodel = \"m\"\ngrants = [{grant:?}]\n")
        };
        let m = model("m", &thinks.url);
        let critic = agent("critic", "You grade.", "here.ask_writer");
        there.file("antiphon.toml", &format!("[servers.here]\n{}{m}{critic}", here.as_server()));
        let (server, _served) = reached(&there, over_http);
        let writer = agent("writer", "You write.", "there.ask_critic");
        here.file("antiphon.toml", &format!("[servers.there]\n{server}{m}{writer}"));

        let (code, _, told) = here.run_with_db(&["ask", "writer", "A haiku", "--trust"]);
        let told = in_one_line(&told);
        assert_eq!(code, FAILED, "over HTTP: {over_http}: {told}");
        assert!(told.contains("writer → critic → writer → critic → writer"), "over HTTP: {over_http}: {told}");
        assert!(told.contains("limits.depth"), "{told}");
        assert_eq!(thinks.heard().len(), 4, "nobody goes on at the bound, in whichever process");
    }
}

/// `there` asks its caller's model, forty times; `here` has one that answers.
fn project(url: &str, sampling: &str, limits: &str) -> (Scratch, Scratch) {
    let (here, there) = (Scratch::new(), Scratch::new());
    there.file(
        "think.toml",
        "[input]\nn = { type = \"integer\" }\n[steps.it]\nsample = \"caller\"\nmax_tokens = 20\n\
         prompt = \"colour {{ input.n }}?\"\n[output]\nsaid = \"{{ steps.it.text }}\"\n",
    );
    here.file(
        "many.toml",
        &format!(
            "[limits]\n{limits}\n[steps.it]\nfor_each = \"range(40) | list\"\ntolerate = \"all\"\ncall = \"there.think\"\n\
             with.n = \"{{{{ item }}}}\"\neffects = \"read_only\"\n[output]\nall = \"{{{{ steps.it.output }}}}\"\n"
        ),
    );
    let server = there.as_server();
    here.file("antiphon.toml", &format!("[servers.there]\n{server}sampling = {sampling}\n{}", model("m", url)));
    (here, there)
}

#[test]
fn a_budget_holds_for_what_the_other_process_samples_through_its_caller() {
    for (sampling, limits) in [
        (r#"{ consent = "allow", models = ["m"], limits = { tokens = 400 } }"#, ""),
        (r#"{ consent = "allow", models = ["m"] }"#, "tokens = 400"),
    ] {
        let thinks = Model::start(|_| says("teal"));
        let (here, _there) = project(&thinks.url, sampling, limits);
        let (code, _, told) = run(&here, "many");
        assert_eq!(code, DONE, "{told}");
        let (answered, shown) = (thinks.heard().len() as u64, here.shown());
        assert_eq!(shown["view"]["used"]["tokens"], answered * ANSWER_TOKENS);
        assert!(answered * ANSWER_TOKENS <= 400, "{answered} answers");
        assert!(answered >= 15, "those that would not fit at once waited for the others: {answered} answers");
        assert!(errors(&shown, "sampling").iter().all(|why| why.contains("are left")));
    }
}

#[test]
fn the_others_own_budget_counts_what_its_caller_answers() {
    let thinks = Model::start(|_| says("teal"));
    let (here, there) = (Scratch::new(), Scratch::new());
    there.file(
        "all.toml",
        "[limits]\ntokens = 150\n[steps.it]\nfor_each = \"range(40) | list\"\ntolerate = \"all\"\nsample = \"caller\"\n\
         max_tokens = 20\nprompt = \"Which colour has the number {{ item }}, in one word?\"\n\
         [output]\nall = \"{{ steps.it.output }}\"\n",
    );
    here.file("go.toml", "[steps.it]\ncall = \"there.all\"\neffects = \"read_only\"\n");
    let granted = r#"sampling = { consent = "allow", models = ["m"], limits = { rounds = 100 } }"#;
    here.file(
        "antiphon.toml",
        &format!("[servers.there]\n{}{granted}\n{}", there.as_server(), model("m", &thinks.url)),
    );
    let (code, output, told) = run(&here, "go");
    assert_eq!(code, DONE, "{told}");
    let answered = output["it"]["all"].as_array().unwrap().iter().filter(|said| !said.is_null()).count();
    assert_eq!(answered, thinks.heard().len(), "{output}");
    let shown = there.shown();
    let used = shown["view"]["used"]["tokens"].as_u64().unwrap();
    assert!(used <= 150, "{used} tokens");
    // Fourteen tokens each: of the question, and of the answer.
    assert!((5..20).contains(&answered), "{answered} answers of {used} tokens");
}

#[test]
fn a_budget_holds_after_a_kill() {
    let (release, held) = channel::<()>();
    let held: Arc<Mutex<Receiver<()>>> = Arc::new(Mutex::new(held));
    let (reached, seen) = channel();
    let reached = Mutex::new((reached, 0));
    // Eight answer, then all are held until the process is dead.
    let thinks = Model::start(move |_| {
        let mut reached = reached.lock().unwrap();
        reached.1 += 1;
        let (number, _) = (reached.1, reached.0.send(()));
        drop(reached);
        if number > 8 {
            let _ = held.lock().unwrap().recv();
        }
        says("teal")
    });
    let granted = r#"{ consent = "allow", models = ["m"] }"#;
    let (here, _there) = project(&thinks.url, granted, "tokens = 600");
    let mut host = Host::start(&mut here.with_db(&["serve", ".", "--trust"]), Era::Legacy, json!({}));
    host.post_call("many", json!({}));
    for _ in 0..12 {
        seen.recv_timeout(Duration::from_secs(30)).unwrap();
    }
    // What is shown has been recorded: who is being asked as well.
    here.shown();
    host.kill();
    let before = thinks.heard().len();
    drop(release);
    let id = here.runs()[0]["id"].as_str().unwrap().to_owned();
    let (code, out, told) = here.run_with_db(&["resume", &id, "--json"]);
    assert_eq!(code, DONE, "{out}{told}");
    let answered = thinks.heard().len();
    assert!(answered > before, "it went on");
    assert!(answered as u64 * ANSWER_TOKENS <= 600, "{answered} were asked, those in flight when it died among them");
    let used = here.shown()["view"]["used"]["tokens"].as_u64().unwrap();
    assert!((answered as u64 * ANSWER_TOKENS..=600).contains(&used), "{used} tokens are counted, {answered} asked");
}

#[test]
fn a_caller_that_may_not_be_sampled_is_left_out_and_it_is_said() {
    for over_http in [false, true] {
        let thinks = Model::start(|_| says("teal"));
        let (here, there) = (Scratch::new(), Scratch::new());
        there.file(
            "antiphon.toml",
            &format!(
                "[servers.tools]\ncommand = \"${{FIXTURE}}\"\nargs = [\"--log\", \"${{LOG}}\"]\n\
                 sampling = {{ consent = \"allow\", models = [\"caller\"] }}\n{}",
                model("theirs", &thinks.url)
            ),
        );
        let sample = |models: &str| format!("[steps.it]\nsample = {models}\nprompt = \"colour?\"\n");
        there.file("alone.toml", &sample("\"caller\""));
        there.file(
            "down.toml",
            &format!("{}{}", model("down", "http://127.0.0.1:9/v1"), sample("[\"down\", \"caller\"]")),
        );
        there.file("relayed.toml", "[steps.it]\ncall = \"tools.sample_me\"\neffects = \"read_only\"\n");
        there.file("other.toml", &sample("[\"theirs\", \"caller\"]"));
        let (server, _served) = reached(&there, over_http);
        // No `sampling`: an edge that is denied.
        here.file("antiphon.toml", &format!("[servers.there]\n{server}"));
        let step = |tool: &str| {
            here.file("go.toml", &format!("[steps.it]\ncall = \"there.{tool}\"\neffects = \"read_only\"\n"));
            run(&here, "go")
        };
        for tool in ["alone", "down", "relayed"] {
            let (code, output, told) = step(tool);
            assert_eq!(code, FAILED, "{tool}, over HTTP: {over_http}: {output}");
            assert!(told.contains("can't sample"), "{tool}, over HTTP: {over_http}: {told}");
        }
        assert!(thinks.heard().is_empty());
        let (code, output, told) = step("other");
        assert_eq!((code, &output["it"]["it"]), (DONE, &json!("teal")), "{told}");
    }
}

#[test]
fn whoever_gets_no_answer_is_not_left_waiting() {
    let (here, there) = (Scratch::new(), Scratch::new());
    there.file("think.toml", "[steps.it]\nsample = \"caller\"\nprompt = \"colour?\"\n");
    let (server, _served) = reached(&there, true);
    let sampling = "sampling = { consent = \"allow\", models = [\"m\"], limits = { tokens = 5 } }\n";
    let m = model("m", "http://127.0.0.1:9/v1");
    here.file("antiphon.toml", &format!("[servers.there]\n{server}{sampling}{m}"));
    here.file("go.toml", "[steps.it]\ncall = \"there.think\"\n");
    let (code, _, told) = run(&here, "go");
    assert_eq!(code, FAILED, "{told}");
    assert!(told.contains("sampling.limits.tokens"), "{told}");
    let begun = Instant::now();
    while there.runs()[0]["status"] != "cancelled" {
        assert!(begun.elapsed() < Duration::from_secs(20), "its run still waits: {:?}", there.runs());
        std::thread::sleep(Duration::from_millis(50));
    }
}
