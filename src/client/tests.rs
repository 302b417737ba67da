use super::{ConnectError, connect, endpoint};

#[test]
fn addresses_are_host_and_port() {
    for good in [
        "127.0.0.1:7400",
        "http://127.0.0.1:7400",
        "http://localhost:7400/",
        "[::1]:7400",
    ] {
        assert!(endpoint(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        ":7400",
        "localhost",
        "localhost:0",
        "localhost:70000",
        "https://localhost:7400",
        "http://localhost:7400/x",
        "a b:1",
    ] {
        assert!(matches!(endpoint(bad), Err(ConnectError::Address { .. })), "{bad}");
    }
}

#[tokio::test]
async fn a_closed_port_is_unreachable() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    drop(listener);
    let error = connect(&address).await.unwrap_err();
    assert!(matches!(error, ConnectError::Unreachable { .. }), "{error}");
}
