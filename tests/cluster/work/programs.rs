//! Common programs, which must work unmodified: each is started, killed, restarted, and stopped.

use rustix::process::geteuid;

use super::*;
use crate::harness::skip;

/// Number of kills: what a program leaves behind must not prevent the next start.
const KILLS: u32 = 3;

/// A real program.
struct Program {
    name: &'static str,
    /// Required programs.
    wants: &'static [&'static str],
    /// Shell script in the instance's own directory, which finally executes the program.
    script: &'static str,
    /// Exits with 0 once the program is healthy; `$PORT_main` is its port.
    check: &'static str,
    /// The stop signal, and the resulting exit status.
    stop: (i32, i32),
    memory: &'static str,
}

const PROGRAMS: [Program; 5] = [
    Program {
        name: "postgres",
        wants: &["postgres", "initdb", "pg_isready", "psql"],
        // When killed, it leaves its pid file, with the number of an earlier process.
        script: "PATH=$PATH:$(ls -d /usr/lib/postgresql/*/bin | tail -n 1); [ -s data/PG_VERSION ] || initdb -D data -U nobody -A trust --no-sync > initdb.log 2>&1 || exit 99; \
                 exec postgres -D data -k \"$PWD\" -h 127.0.0.1 -p $PORT_main",
        check: "kill -0 $(head -n 1 data/postmaster.pid) && \
                [ \"$(psql -h 127.0.0.1 -p $PORT_main -U nobody -Atc 'select 40 + 2' postgres)\" = 42 ]",
        // A fast shutdown.
        stop: (2, 0),
        memory: "512MiB",
    },
    Program {
        name: "java",
        wants: &["java"],
        script: "printf '%s' 'import com.sun.net.httpserver.HttpServer; import java.net.InetSocketAddress; \
                   class Main { public static void main(String[] a) throws Exception { \
                   long own = ProcessHandle.current().pid(); \
                   if (ProcessHandle.allProcesses().noneMatch(p -> p.pid() == own)) System.exit(98); \
                   HttpServer s = HttpServer.create(new InetSocketAddress(\"127.0.0.1\", Integer.parseInt(a[0])), 0); \
                   s.createContext(\"/\", x -> { byte[] b = \"ok\".getBytes(); x.sendResponseHeaders(200, b.length); x.getResponseBody().write(b); x.close(); }); \
                   Runtime.getRuntime().addShutdownHook(new Thread(() -> System.out.println(\"hook\"))); \
                   s.start(); } }' > Main.java; exec java -Xmx64m Main.java $PORT_main",
        check: "exec 3<>/dev/tcp/127.0.0.1/$PORT_main && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ok <&3",
        stop: (15, 143),
        memory: "1GiB",
    },
    Program {
        name: "node",
        wants: &["node"],
        script: "exec node -e \"const c = require('child_process'); \
                   process.on('SIGTERM', () => process.exit(7)); \
                   require('http').createServer((q, r) => c.execFile('/bin/echo', ['ok'], (e, out) => r.end(out))).listen(+process.env.PORT_main, '127.0.0.1')\"",
        check: "exec 3<>/dev/tcp/127.0.0.1/$PORT_main && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ok <&3",
        stop: (15, 7),
        memory: "512MiB",
    },
    Program {
        name: "gunicorn",
        wants: &["gunicorn"],
        script: "printf 'def app(e, s):\\n  s(\"200 OK\", [])\\n  return [b\"ok\"]\\n' > hello.py; \
                 exec gunicorn --workers 2 --pid gunicorn.pid --bind 127.0.0.1:$PORT_main hello:app",
        check: "kill -0 $(cat gunicorn.pid) && exec 3<>/dev/tcp/127.0.0.1/$PORT_main && printf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q ok <&3",
        stop: (15, 0),
        memory: "512MiB",
    },
    Program {
        name: "shell",
        wants: &["bash"],
        script: "exec bash -c 'trap \"echo usr1 >> seen\" USR1; trap \"kill %1; wait; exit 5\" TERM; trap \"echo bye >> seen\" EXIT; \
                   sleep 100000 & kill -USR1 $$; while true; do wait %1; done'",
        check: "grep -q usr1 seen",
        stop: (15, 5),
        memory: "64MiB",
    },
];

/// Returns whether a program is on the usual path, or where Debian keeps PostgreSQL's.
fn is_there(name: &str) -> bool {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut directories: Vec<PathBuf> = versions.map(|version| version.path().join("bin")).collect();
    directories.extend(["/usr/local/bin", "/usr/bin", "/bin"].map(PathBuf::from));
    directories.iter().any(|directory| directory.join(name).exists())
}

/// Waits until this number of restarts is complete, and the instance is healthy.
async fn is_well(site: &Site, name: &str, restarts: u32) -> v1::InstanceStatus {
    let what = format!("{name} is well after {restarts} restarts");
    wait_long(&what, async || {
        let rows = site.instances(name).await;
        let status = status(rows.first()?);
        assert!(
            status.restarts <= restarts && status.phase() != InstancePhase::Ended,
            "{name}: {status:?}\n{}",
            text(&site.ctl(&["logs", &format!("{name}.0"), "--stderr"]))
        );
        (status.restarts == restarts && status.healthy).then_some(status)
    })
    .await
}

/// Like [`wait_until`], for programs that start slowly on a host under load.
async fn wait_long<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(
            since.elapsed() < Duration::from_secs(120),
            "not within 2 minutes: {what}"
        );
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn lives_its_life(site: &Site, program: &Program) {
    let name = program.name;
    let (script, check) = (program.script, program.check);
    site.apply(&format!(
        "name = \"{name}\"\ncommand = \"/bin/sh\"\nargs = [\"-c\", {script:?}]\nports = [\"main\"]\n\
         [resources]\nmemory = \"{}\"\n[restart]\nattempts = 10\nbackoff = \"200ms\"\n\
         [[checks]]\nexec = [\"/bin/bash\", \"-c\", {check:?}]\ninterval = \"500ms\"\ntimeout = \"10s\"\nfailures = 100\n\
         [stop]\nsignal = {}\ngrace = \"30s\"\n",
        program.memory, program.stop.0
    ));
    for kills in 0..KILLS {
        let status = is_well(site, name, kills).await;
        kill(status.pid as i32, Signal::KILL);
    }
    is_well(site, name, KILLS).await;
    assert!(site.ctl(&["scale", name, "0"]).status.success());
    let ended = wait_long(&format!("{name} has ended"), async || {
        let rows = site.instances(name).await;
        let status = status(rows.first()?);
        (status.phase() == InstancePhase::Ended).then_some(status)
    })
    .await;
    let code = v1::process_exit::How::Code(program.stop.1);
    assert_eq!(ended.exit.unwrap().how, Some(code), "{name}: {}", ended.detail);
    assert!(site.ctl(&["delete", name]).status.success());
}

#[tokio::test]
async fn real_programs_are_killed_and_come_back_and_end_as_they_are_told() {
    if !geteuid().is_root() {
        return eprintln!("skipped: only root runs programs as others");
    }
    let site = Site::start(&["one"]).await;
    for program in PROGRAMS {
        match program.wants.iter().find(|wanted| !is_there(wanted)) {
            Some(missing) => skip(&format!("{missing}, for {}", program.name)),
            None => lives_its_life(&site, &program).await,
        }
    }
    wait_until("nothing is left", async || {
        site.processes("one").is_empty().then_some(())
    })
    .await;
    site.ends().await;
}
