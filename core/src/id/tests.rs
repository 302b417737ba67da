use super::*;

const TEXT_OF_ONE: &str = "123e4567-e89b-12d3-a456-426614174000";

#[test]
fn a_uuid_is_read_in_its_usual_form_alone_and_written_in_lower_case() {
    let id: Uuid = TEXT_OF_ONE.parse().unwrap();
    assert_eq!(id.0[..5], [0x12, 0x3e, 0x45, 0x67, 0xe8]);
    assert_eq!(id.to_string(), TEXT_OF_ONE);
    assert_eq!(TEXT_OF_ONE.to_uppercase().parse(), Ok(id));
    assert_eq!(format!("{id:<38}|{id:?}"), format!("{TEXT_OF_ONE}  |{TEXT_OF_ONE}"));
    let braced = format!("{{{TEXT_OF_ONE}}}");
    let [simple, urn] = [TEXT_OF_ONE.replace('-', ""), format!("urn:uuid:{TEXT_OF_ONE}")];
    let moved = "123e45678-e89b12d3-a456-426614174000";
    let last = TEXT_OF_ONE.replace('4', "g");
    // Equally many bytes, but fewer characters.
    let wide = "123e4567-e89b-12d3-a456-4266141740é";
    for wrong in ["", &simple, &urn, &braced, moved, &last, wide] {
        assert_eq!(wrong.parse::<Uuid>(), Err(BadUuid), "{wrong}");
    }
}
