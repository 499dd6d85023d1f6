import torch
from conftest import TINY

from prevmatch.config import SegmenterConfig
from prevmatch.guides.guide import Versions
from prevmatch.guides.itself import itself
from prevmatch.models.frozen import Frozen
from prevmatch.models.segmenter import Segmenter

CONFIG = SegmenterConfig(encoder="test_resnet", num_classes=3, decoder_channels=8, low_level_channels=4)


def test_student_answers_in_eval_mode_and_stays_in_train_mode():
    torch.manual_seed(0)
    student, images = Segmenter(CONFIG).train(), torch.randn(2, 3, 32, 32)
    before = {k: v.clone() for k, v in student.state_dict().items()}
    guide = itself(TINY, Versions(0, student, Frozen(student)))
    answer = guide.label(images)
    assert guide.reads == 0
    assert student.training
    assert not answer.requires_grad
    assert all(torch.equal(v, before[k]) for k, v in student.state_dict().items())
    with torch.no_grad():
        torch.testing.assert_close(answer, student.eval()(images, enlarged=False), rtol=1e-4, atol=1e-5)


def test_its_labels_count_from_the_students_threshold_on():
    student = Segmenter(CONFIG)
    guide = itself(TINY, Versions(0, student, Frozen(student)))
    confidence = torch.tensor([[[0.19, 0.2, 0.9]]])
    assert guide.accepts(torch.zeros(1, 1, 3, dtype=torch.int64), confidence).tolist() == [[[False, True, True]]]
