"""What all training scripts share: arguments, a run, batches, the loop over epochs, checkpoints, several processes.

Torch is imported here and in `services/*/training` and nowhere else; nothing that serves may reach this room. A script
looks like this, every name below being one of this room's:

    def get_args_parser() -> ArgumentParser:
        return make_parser(__doc__, epochs=20, batch_size=64, learning_rate=1e-3)           # arguments.py

    def main(arguments: Namespace) -> Fitted:
        with start(arguments, "digits") as run:                                              # run.py
            train, valid = load_data(run)
            model = wrap(Network(), run)                                                     # distributed.py
            optimizer = torch.optim.AdamW(model.parameters(), lr=arguments.learning_rate)
            return fit(                                                                      # fit.py
                run, model, optimizer,
                train_one_epoch=lambda epoch: train_one_epoch(run, model, optimizer, train, epoch),
                evaluate=lambda: evaluate(run, model, valid),
                epochs=arguments.epochs, patience=arguments.patience, metric="accuracy",
            )

    def train_one_epoch(run, model, optimizer, train, epoch) -> dict[str, float]:
        model.train()
        loss = Average()                                                                     # distributed.py
        for batch in run.track(train.batches.epoch(epoch), f"epoch {epoch}", len(train.batches)):  # batches.py
            with run.autocast():
                logits = model(train.images[batch.indices])
                total = cross_entropy(logits, train.labels[batch.indices], reduction="sum")
            loss.add(total, len(batch))
            step(run, model, optimizer, total / batch.global_size)                           # distributed.py
        return {"loss": loss.value(run)}

    if __name__ == "__main__":
        launch(main, get_args_parser())                                                      # run.py
"""
