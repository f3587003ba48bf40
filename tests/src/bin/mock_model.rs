//! The model server by hand: `mock_model [PORT]` prints its address, then a line for each request.

use bridge_testkit::mock_model::MockModel;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let port = std::env::args()
        .nth(1)
        .and_then(|port| port.parse().ok())
        .unwrap_or(0);
    let model = MockModel::start_at(port).await?;
    say(&model.address());
    let mut log = model.watch();
    let mut told = 0;
    loop {
        tokio::select! {
            changed = log.changed() => {
                if changed.is_err() {
                    break;
                }
                let log = log.borrow_and_update();
                for asked in log.iter().skip(told) {
                    say(&format!("{asked:?}"));
                }
                told = log.len();
            }
            ended = tokio::signal::ctrl_c() => {
                ended?;
                break;
            }
        }
    }
    model.shutdown().await
}

#[expect(clippy::print_stdout, reason = "a program for a person at a terminal")]
fn say(line: &str) {
    println!("{line}");
}
