from ignite.engine import Engine

from common.engine.handlers import ValidateEvery


def test_the_last_epoch_is_validated_whatever_the_interval():
    for epochs, interval, expected in ((5, 2, [2, 4, 5]), (1, 3, [1]), (4, 2, [2, 4])):
        seen = []

        class Validator:
            def run(self, epoch, seen=seen):
                seen.append(epoch)

        engine = Engine(lambda *_: None)
        handler = ValidateEvery.__new__(ValidateEvery)
        handler.validator, handler.interval, handler.epoch_level, handler.exec_at_start = (
            Validator(),
            interval,
            True,
            False,
        )
        handler.attach(engine)
        engine.run([0], max_epochs=epochs)
        assert seen == expected
