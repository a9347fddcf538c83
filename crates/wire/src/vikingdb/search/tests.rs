use super::*;

fn written(score: Score) -> String {
    let mut out = Vec::new();
    write_score(score, &mut out);
    String::from_utf8(out).expect("text")
}

#[test]
fn floats_have_a_fraction_and_large_ones_no_exponent() {
    for (score, text) in [
        (36.0, "36.0"),
        (0.0, "0.0"),
        (-0.5, "-0.5"),
        (1e-7, "1e-7"),
        (9.99e12, "9990000000000.0"),
        (1e13, "10000000000000.0"),
        (-1.6e16, "-16000000000000000.0"),
    ] {
        assert_eq!(written(Score::Float(score)), text);
    }
    for x in [f32::MAX, f32::MIN, 1.234_567_9e22, LARGE_SCORE, LARGE_SCORE.next_down(), f32::MIN_POSITIVE] {
        let text = written(Score::Float(x));
        assert_eq!(text.parse::<f32>().expect("a number").to_bits(), x.to_bits(), "{text}");
        assert!(x.abs() < 1.0 || (text.contains('.') && !text.contains('e')), "{text}");
    }
    assert_eq!(written(Score::Int(7)), "7");
}
