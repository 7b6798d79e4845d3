//! The netkeeper without the rest of conex, for this crate's own tests.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let link = conex_sys::socket::inherited(0)?;
    Ok(conex_network::keeper::run(link)?)
}
