use super::*;

/// An unused address.
pub(in crate::dev) fn free_address() -> SocketAddr {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap()
}

fn request(action: Action, name: &str) -> Request {
    Request {
        action,
        name: name.to_owned(),
    }
}

#[test]
fn requests_are_an_action_and_a_name() {
    assert_eq!("kill node-2".parse(), Ok(request(Action::Kill, "node-2")));
    assert_eq!("start coordinator".parse(), Ok(request(Action::Start, "coordinator")));
    let long = format!("kill {}", "n".repeat(NAME_MOST + 1));
    for wrong in [
        "",
        "kill",
        "kill ",
        "kill  node-1",
        "kill node 1",
        "end node-1",
        "kill node\u{7}",
        &long,
    ] {
        assert!(wrong.parse::<Request>().is_err(), "{wrong:?}");
    }
}

#[test]
fn answers_are_read_as_they_are_written() {
    let text = || "node-2: it runs".to_owned();
    for answer in [Answer::Done(text()), Answer::Refused(text()), Answer::Unknown(text())] {
        assert_eq!(Answer::parse(&answer.line()), Some(answer));
    }
    for wrong in ["", "done", "done it", "well it\n"] {
        assert_eq!(Answer::parse(wrong), None, "{wrong:?}");
    }
}

#[test]
fn fuzz_requests() {
    let seeds = [b"kill node-2".to_vec(), b"start coordinator".to_vec()];
    wyneos_fuzz::run("requests of `wynectl dev`", &seeds, |bytes| {
        let line = String::from_utf8_lossy(bytes);
        let request = line.parse::<Request>().ok();
        if let Some(request) = &request {
            assert_eq!(line, format!("{} {}", request.action.word(), request.name));
        }
        request.is_some()
    });
}

/// Answers the next request with its own words, while `asking` is polled.
async fn served<T>(control: &mut Control, asking: impl Future<Output = T>) -> T {
    let answering = async {
        loop {
            let asked = control.next().await;
            let text = format!("{} {}", asked.request.action.word(), asked.request.name);
            drop(asked.reply.send(Answer::Done(text).into()));
        }
    };
    tokio::select! {
        asked = asking => asked,
        () = answering => unreachable!("requests have no end"),
    }
}

const LIMIT: Duration = Duration::from_secs(10);

fn exit(asked: Result<String, Failure>) -> Exit {
    match asked {
        Err(Failure::Told { exit, .. }) => exit,
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_request_gets_its_answer_until_the_cluster_ends() {
    let (address, other) = (free_address(), free_address());
    let stop = request(Action::Stop, "node-1");
    assert_eq!(exit(ask(address, &stop, LIMIT).await), Exit::Unreachable);
    let mut control = Control::listen(address).unwrap();
    assert!(matches!(Control::listen(address), Err(DevError::Runs(at)) if at == address));
    assert!(Control::listen(other).is_ok());
    let answer = served(&mut control, ask(address, &stop, LIMIT)).await;
    assert_eq!(answer.unwrap(), "stop node-1");
    control.close();
    assert_eq!(exit(ask(address, &stop, LIMIT).await), Exit::Failed);
}

#[tokio::test]
async fn what_is_no_request_is_refused_and_a_long_one_is_not_read() {
    let address = free_address();
    let mut control = Control::listen(address).unwrap();
    let long = "n".repeat(100_000);
    for wrong in ["kill\n", "\n", &long] {
        let answer = served(&mut control, async {
            let mut stream = UnixStream::connect(socket(address)).await.unwrap();
            // The other side may have ended the connection before reading everything.
            drop(stream.write_all(wrong.as_bytes()).await);
            let mut answer = String::new();
            drop(stream.read_to_string(&mut answer).await);
            answer
        });
        let answer = answer.await;
        assert!(
            answer.is_empty() && wrong.len() > 1_000 || answer.starts_with("refused not understood"),
            "{answer}"
        );
    }
}

#[tokio::test]
async fn those_who_say_nothing_keep_nobody_out_for_long() {
    let address = free_address();
    let mut control = Control::listen(address).unwrap();
    let mut silent = Vec::new();
    for _ in 0..CONNECTIONS {
        silent.push(UnixStream::connect(socket(address)).await.unwrap());
    }
    let answer = served(&mut control, ask(address, &request(Action::Cont, "node-1"), LIMIT)).await;
    assert_eq!(answer.unwrap(), "cont node-1");
}
